-- settle_failed: record a failed attempt; another follows after a delay, or the job ends with a dead letter.
-- ARGV   1 id  2 worker  3 attempt  4 ErrorInfo  5 delay ms, or -1: final  6 reason  7 detail  8 retention of failed, s
--        9 the unfinished job that this one waits for, or '': waiting is not charged, and ends when that one does
-- Reply  ok · superseded
-- A run whose cancellation was asked for is not tried again: it ends cancelled.

local id, worker, attempt, error, delay_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local reason, detail, retain_sec, source = ARGV[6], ARGV[7], ARGV[8], ARGV[9]

-- Note that a job waits for another. Returns the delay: none when that one has ended meanwhile.
local function wait_for(id, source, delay_ms)
  redis.call('HINCRBY', JOB .. id, 'spared', 1)
  local state = redis.call('HGET', JOB .. source, 'state')
  if state ~= 'pending' and state ~= 'processing' then return 0 end
  redis.call('SADD', WAITERS .. source, id)
  redis.call('EXPIRE', WAITERS .. source, retain_sec)
  return delay_ms
end

if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry', 'created_at', 'crashes', 'cancel')
remove(held[1], held[2])
if delay_ms < 0 then
  fail(id, 'processing', held[3], retain_sec, reason, error, attempt, held[4] or 0, detail)
elseif held[5] then
  cancel_now(id, 'processing', held[3], retain_sec, attempt)
else
  if source ~= '' then delay_ms = wait_for(id, source, delay_ms) end
  redis.call('ZREM', LEASES, id)
  redis.call('ZADD', DELAYED, NOW + delay_ms, id)
  redis.call('HDEL', JOB .. id, 'worker', 'entry', 'stage')
  redis.call('HSET', JOB .. id, 'error', error, 'retry_at', NOW + delay_ms, 'updated_at', NOW, 'progress', 0)
  emit(id, 'retry', {attempt = tonumber(attempt), worker = worker, error = cjson.decode(error),
    retry_at_ms = NOW + delay_ms})
end
return 'ok'
