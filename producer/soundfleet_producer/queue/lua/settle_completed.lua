-- settle_completed: commit the output of a run. This is the one moment at which it becomes visible.
-- ARGV   1 id  2 worker  3 attempt  4 JobResult  5 fingerprint or ''  6 retention of completed, s
-- Reply  ok · superseded

local id, worker, attempt, result, fingerprint, retain_sec = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry', 'created_at')
remove(held[1], held[2])
finish(id, 'processing', 'completed', held[3], retain_sec, 'result', result, 'progress', 100)
redis.call('HDEL', JOB .. id, 'error', 'cancel')
if fingerprint ~= '' then
  redis.call('HSET', JOB .. id, 'fingerprint', fingerprint)
  redis.call('SET', CACHE .. fingerprint, id, 'EX', retain_sec)
end
emit(id, 'completed', {attempt = tonumber(attempt), worker = worker})
retire_events(id, retain_sec)
return 'ok'
