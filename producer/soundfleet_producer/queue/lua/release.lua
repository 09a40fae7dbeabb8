-- release: hand a run back (drain). The job waits in its lane again and no attempt is charged.
-- ARGV   1 id  2 worker  3 attempt
-- Reply  ok · superseded

local id, worker, attempt = ARGV[1], ARGV[2], ARGV[3]
if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry')
remove(held[1], held[2])
redis.call('ZREM', LEASES, id)
redis.call('HDEL', JOB .. id, 'worker')
redis.call('HINCRBY', JOB .. id, 'spared', 1)
redis.call('HSET', JOB .. id, 'entry', enqueue(id, held[1]), 'updated_at', NOW, 'progress', 0)
emit(id, 'requeued', {attempt = tonumber(attempt), worker = worker})
return 'ok'
