-- settle_failed: record a failed attempt; another follows after a delay, or the job ends with a dead letter.
-- ARGV   1 id  2 worker  3 attempt  4 ErrorInfo  5 delay ms, or -1: final  6 reason  7 detail  8 retention of failed, s
--        9 whether the attempt is charged 1|0
-- Reply  ok · superseded
-- A run whose cancellation was asked for is not tried again: it ends cancelled.

local id, worker, attempt, error, delay_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local reason, detail, retain_sec, charged = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry', 'created_at', 'crashes', 'cancel')
remove(held[1], held[2])
if delay_ms < 0 then
  fail(id, 'processing', held[3], retain_sec, reason, error, attempt, held[4] or 0, detail)
elseif held[5] then
  cancel_now(id, 'processing', held[3], retain_sec, attempt)
else
  if charged == '0' then redis.call('HINCRBY', JOB .. id, 'spared', 1) end
  redis.call('ZREM', LEASES, id)
  redis.call('ZADD', DELAYED, NOW + delay_ms, id)
  redis.call('HDEL', JOB .. id, 'worker', 'entry')
  redis.call('HSET', JOB .. id, 'error', error, 'retry_at', NOW + delay_ms, 'updated_at', NOW, 'progress', 0)
  emit(id, 'retry', {attempt = tonumber(attempt), worker = worker, error = cjson.decode(error),
    retry_at_ms = NOW + delay_ms})
end
return 'ok'
