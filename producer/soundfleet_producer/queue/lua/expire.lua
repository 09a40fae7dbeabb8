-- expire: fail the jobs that have not started by their expires_at, so that they do not fill the queue. A job whose
-- sources were fetched, and that waits for its backend since, has not started.
-- ARGV   1 at most  2 retention of failed, s
-- Reply  how many
-- The entry stays in its lane as a tombstone, as that of a cancelled job does.

local failed = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[1]))) do
  redis.call('ZREM', EXPIRIES, id)
  local held = redis.call('HMGET', JOB .. id, 'state', 'created_at', 'attempt', 'forwarded', 'worker',
    'crashes')
  local forwarded = held[1] == 'processing' and not held[5] and held[4] and held[4] == held[3]
  if held[1] == 'pending' or forwarded then
    expire(id, held[1], held[2], ARGV[2], held[3], held[6])
    failed = failed + 1
  end
end
return failed
