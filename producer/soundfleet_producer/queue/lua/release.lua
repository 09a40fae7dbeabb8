-- release: hand a run back (drain). The job waits at the front and no attempt is charged; a cancelled one ends.
-- ARGV   1 id  2 worker  3 attempt  4 retention of cancelled, s  5 ErrorInfo: why, or ''
-- Reply  ok · superseded

local id, worker, attempt = ARGV[1], ARGV[2], ARGV[3]
if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry', 'cancel', 'created_at')
remove(held[1], held[2])
if held[3] then
  cancel_now(id, 'processing', held[4], ARGV[4], tonumber(attempt))
  return 'ok'
end
redis.call('ZREM', LEASES, id)
redis.call('HDEL', JOB .. id, 'worker')
redis.call('HINCRBY', JOB .. id, 'spared', 1)
give_back(id, held[1])
local why = ARGV[5] ~= '' and cjson.decode(ARGV[5]) or nil
emit(id, 'requeued', {attempt = tonumber(attempt), worker = worker, error = why})
return 'ok'
