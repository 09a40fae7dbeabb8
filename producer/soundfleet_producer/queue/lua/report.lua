-- report: record and publish the progress of a run.
-- ARGV   1 id  2 worker  3 attempt  4 percent  5 stage  6 ProgressUpdate
-- Reply  ok · cancel · superseded

local id, worker, attempt = ARGV[1], ARGV[2], ARGV[3]
if not owns(id, worker, attempt) then return 'superseded' end
redis.call('HSET', JOB .. id, 'progress', ARGV[4], 'stage', ARGV[5], 'updated_at', NOW)
emit(id, 'progress', {attempt = tonumber(attempt), worker = worker, progress = cjson.decode(ARGV[6])})
return redis.call('HEXISTS', JOB .. id, 'cancel') == 1 and 'cancel' or 'ok'
