-- expire: fail the jobs that have not started by their expires_at, so that they do not fill the queue.
-- ARGV   1 at most  2 retention of failed, s
-- Reply  how many
-- The entry stays in its lane as a tombstone, as that of a cancelled job does.

local failed = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[1]))) do
  redis.call('ZREM', EXPIRIES, id)
  local held = redis.call('HMGET', JOB .. id, 'state', 'created_at')
  if held[1] == 'pending' then
    expire(id, held[2], ARGV[2])
    failed = failed + 1
  end
end
return failed
