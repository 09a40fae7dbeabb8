-- reap: take jobs from workers whose lease ran out, and put them back into their lanes.
-- ARGV   1 at most  2 most crashes  3 ErrorInfo of a job that crashed too often  4 retention of failed, s
-- Reply  {id, ...}

local at_most, most_crashes, error, retain_sec = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local reaped = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', LEASES, '-inf', NOW, 'LIMIT', 0, at_most)) do
  redis.call('ZREM', LEASES, id)
  local held = redis.call('HMGET', JOB .. id, 'state', 'lane', 'entry', 'attempt', 'worker', 'created_at', 'cancel')
  local attempt, worker = tonumber(held[4] or 0), held[5]
  if held[1] == 'processing' and worker then
    reaped[#reaped + 1] = id
    remove(held[2], held[3])
    redis.call('HDEL', JOB .. id, 'worker', 'entry')
    redis.call('HINCRBY', JOB .. id, 'spared', 1)
    local crashes = redis.call('HINCRBY', JOB .. id, 'crashes', 1)
    if held[7] then
      cancel_now(id, 'processing', held[6], retain_sec, attempt)
    elseif crashes >= most_crashes then
      fail(id, 'processing', held[6], retain_sec, 'crashes', error, attempt, crashes, 'last worker: ' .. worker)
    else
      give_back(id, held[2])
      emit(id, 'lost', {attempt = attempt, worker = worker})
    end
  end
end
return reaped
