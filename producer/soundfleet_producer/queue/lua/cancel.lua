-- cancel: end a waiting job at once; tell the worker of a running one.
-- ARGV   1 id  2 ErrorInfo  3 retention, s
-- Reply  the state that the job is in now · missing
-- The entry of a waiting job stays as a tombstone: deleting undelivered entries would spoil the group's lag.

local id, error, retain_sec = ARGV[1], ARGV[2], ARGV[3]
local held = redis.call('HMGET', JOB .. id, 'state', 'worker', 'attempt', 'created_at')
local state, worker, attempt = held[1], held[2], tonumber(held[3] or 0)
if not state then return 'missing' end
if state ~= 'pending' and state ~= 'processing' then return state end
if worker then
  if redis.call('HSETNX', JOB .. id, 'cancel', 1) == 1 then emit(id, 'cancelling', {attempt = attempt, worker = worker}) end
  redis.call('PUBLISH', CONTROL .. worker, id)
  return state
end
cancel_now(id, state, held[4], retain_sec, attempt, error)
return 'cancelled'
