-- settle_cancelled: end a run whose cancellation was asked for.
-- ARGV   1 id  2 worker  3 attempt  4 ErrorInfo (says at which step it stopped)  5 retention, s
-- Reply  ok · superseded

local id, worker, attempt, error, retain_sec = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry', 'created_at')
remove(held[1], held[2])
cancel_now(id, 'processing', held[3], retain_sec, attempt, error)
return 'ok'
