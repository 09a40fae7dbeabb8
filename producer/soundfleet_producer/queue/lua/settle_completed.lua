-- settle_completed: commit the output of a run. This is the one moment at which it becomes visible.
-- ARGV   1 id  2 worker  3 attempt  4 JobResult  5 fingerprint or ''  6 retention of completed, s
--        7 whether equal requests may be answered from it 1|0: not when it was itself such an answer
-- Reply  ok · superseded

-- Count completions by the minute, so that a full queue can say how long it takes.
local function count_completion()
  local minute = math.floor(NOW / 60000)
  if redis.call('HINCRBY', PACE, minute, 1) == 1 then
    for _, past in ipairs(redis.call('HKEYS', PACE)) do
      if tonumber(past) < minute - 10 then redis.call('HDEL', PACE, past) end
    end
    redis.call('EXPIRE', PACE, 660)
  end
end

local id, worker, attempt, result, fingerprint, retain_sec = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if not owns(id, worker, attempt) then return 'superseded' end
local held = redis.call('HMGET', JOB .. id, 'lane', 'entry', 'created_at')
remove(held[1], held[2])
finish(id, 'processing', 'completed', held[3], retain_sec, 'result', result, 'progress', 100)
redis.call('HDEL', JOB .. id, 'error', 'cancel')
if fingerprint ~= '' then
  redis.call('HSET', JOB .. id, 'fingerprint', fingerprint)
  if ARGV[7] == '1' then redis.call('SET', CACHE .. fingerprint, id, 'EX', retain_sec) end
end
count_completion()
emit(id, 'completed', {attempt = tonumber(attempt), worker = worker})
retire_events(id, retain_sec)
return 'ok'
