-- promote: put jobs whose retry is due back into their lanes.
-- ARGV   1 at most
-- Reply  how many

local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', NOW, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(due) do
  redis.call('ZREM', DELAYED, id)
  local held = redis.call('HMGET', JOB .. id, 'state', 'lane', 'attempt', 'worker')
  if held[1] == 'processing' and not held[4] then
    redis.call('HDEL', JOB .. id, 'retry_at')
    redis.call('HSET', JOB .. id, 'entry', enqueue(id, held[2]), 'updated_at', NOW)
    emit(id, 'requeued', {attempt = tonumber(held[3])})
  end
end
return #due
