-- sweep: take jobs whose records have expired out of the indexes.
-- ARGV   1 at most, per state
-- Reply  how many
-- Records expire by their own TTL, counted from the end of the job; the oldest of each final state are looked at.

local swept = 0
for _, state in ipairs({'completed', 'failed', 'cancelled'}) do
  for _, id in ipairs(redis.call('ZRANGE', JOBS .. ':' .. state, 0, tonumber(ARGV[1]) - 1)) do
    if redis.call('EXISTS', JOB .. id) == 0 then
      redis.call('ZREM', JOBS .. ':' .. state, id)
      redis.call('ZREM', JOBS, id)
      swept = swept + 1
    end
  end
end
return swept
