-- forward: hand a run on to another lane: to its backend once its sources are fetched, or to where they are fetched.
-- ARGV   1 id  2 worker  3 attempt  4 lane  5 uploads by source (JSON) or '': not fetched  6 retention of cancelled, s
-- Reply  ok · superseded
-- The job waits at the tail, as one that has not had its turn, and no attempt is charged; a cancelled one ends.
-- `forwarded` is the attempt that did it: until there is another, the job's expires_at counts again.

local id, worker, attempt, lane, fetched = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry', 'cancel', 'created_at', 'expires_at')
remove(held[1], held[2])
if held[3] then
  cancel_now(id, 'processing', held[4], ARGV[6], tonumber(attempt))
  return 'ok'
end
redis.call('ZREM', LEASES, id)
redis.call('HDEL', JOB .. id, 'worker', 'stage')
redis.call('HINCRBY', JOB .. id, 'spared', 1)
if held[5] then redis.call('ZADD', EXPIRIES, held[5], id) end
redis.call('HSET', JOB .. id, 'lane', lane, 'entry', enqueue(id, lane), 'forwarded', attempt, 'updated_at', NOW,
  'progress', 0)
if fetched == '' then
  emit(id, 'requeued', {attempt = tonumber(attempt), worker = worker})
else
  redis.call('HSET', JOB .. id, 'fetched', fetched)
  emit(id, 'fetched', {attempt = tonumber(attempt), worker = worker})
end
return 'ok'
