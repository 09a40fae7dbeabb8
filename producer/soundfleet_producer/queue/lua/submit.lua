-- submit: create jobs once, or find them; or answer them from finished work. A redrive names the failed job it redoes.
-- ARGV   1 most that wait  2 retention of completed, s  then for each job eight:
--        id, request, lane, fingerprint or '', use_cache 1|0, expires_at ms or '', estimated s, failed job or ''
-- Reply  for each job one of
--        {created|exists|cached, state} · {full, waiting, completed of late, in s} · {conflict}
--        {not_failed, state} · {redriven, id} · {missing} · {invalid, what}

local most_waiting, retain_sec = tonumber(ARGV[1]), ARGV[2]

-- Jobs that wait: those that nobody has begun, and those that were begun and are in nobody's hands, since whatever a
-- worker holds has a lease. So a backend's backlog of what others have fetched fills the queue, too.
local function count_waiting()
  local idle = redis.call('ZCARD', JOBS .. ':processing') - redis.call('ZCARD', LEASES)
  return redis.call('ZCARD', JOBS .. ':pending') + math.max(0, idle)
end

local waiting = count_waiting()

-- Completions of the last ten minutes, and in how many seconds: from the first of them on, a minute at least.
local function recent_completions()
  local sum, oldest = 0, math.floor(NOW / 60000) - 10
  local first = math.floor(NOW / 60000)
  local counts = redis.call('HGETALL', PACE)
  for i = 1, #counts, 2 do
    local minute = tonumber(counts[i])
    if minute > oldest then
      sum = sum + tonumber(counts[i + 1])
      first = math.min(first, minute)
    end
  end
  return sum, math.max(60, math.floor(NOW / 1000) - 60 * first)
end

-- What is wrong with the arguments of a publisher in another language, before anything is written; or nil.
local function refuse(id, lane, expires_at)
  if id == '' then return 'the id is empty' end
  if not string.match(lane, '^%l+%.[%w_-]+:%l+$') then return 'the lane is not kind.backend:priority' end
  if expires_at ~= '' and not string.match(expires_at, '^%d+$') then return 'expires_at is not in milliseconds' end
end

-- Why the failed job cannot be redriven, or nil; and its dead letter.
local function refuse_redrive(old_id)
  local old = redis.call('HMGET', JOB .. old_id, 'state', 'redriven_as', 'letter')
  if not old[1] then return {'missing'} end
  if old[1] ~= 'failed' then return {'not_failed', old[1]} end
  if old[2] then return {'redriven', old[2]} end
  return nil, old[3]
end

local function answer_from_cache(id, request, lane, fingerprint, result)
  redis.call('ZADD', JOBS, NOW, id)
  redis.call('HSET', JOB .. id, 'request', request, 'lane', lane, 'state', 'pending', 'created_at', NOW,
    'started_at', NOW, 'progress', 100, 'result', result, 'fingerprint', fingerprint, 'cached', 1)
  finish(id, 'pending', 'completed', NOW, retain_sec)
  emit(id, 'completed', {})
  retire_events(id, retain_sec)
  return {'cached', 'completed'}
end

local function create(id, request, lane, expires_at, estimated)
  waiting = waiting + 1
  redis.call('ZADD', JOBS, NOW, id)
  redis.call('ZADD', JOBS .. ':pending', NOW, id)
  redis.call('HSET', JOB .. id, 'request', request, 'lane', lane, 'state', 'pending', 'created_at', NOW,
    'entry', enqueue(id, lane), 'estimated', estimated)
  if expires_at ~= '' then
    redis.call('HSET', JOB .. id, 'expires_at', expires_at)
    redis.call('ZADD', EXPIRIES, expires_at, id)
  end
  return {'created', 'pending'}
end

local function submit(id, request, lane, fingerprint, use_cache, expires_at, estimated, retried_from)
  local wrong = refuse(id, lane, expires_at)
  if wrong then return {'invalid', wrong} end
  local known = redis.call('HMGET', JOB .. id, 'request', 'state')
  if known[2] then return known[1] == request and {'exists', known[2]} or {'conflict'} end

  local refusal, letter
  if retried_from ~= '' then refusal, letter = refuse_redrive(retried_from) end
  if refusal then return refusal end

  local source = use_cache == '1' and fingerprint ~= '' and redis.call('GET', CACHE .. fingerprint)
  local result = source and redis.call('HGET', JOB .. source, 'result')
  if not result and waiting >= most_waiting then
    local completed, seconds = recent_completions()
    return {'full', waiting, completed, seconds}
  end

  if retried_from ~= '' then redis.call('HSET', JOB .. retried_from, 'redriven_as', id) end
  if letter then redis.call('XDEL', DEAD, letter) end
  if result then return answer_from_cache(id, request, lane, fingerprint, result) end
  return create(id, request, lane, expires_at, estimated)
end

local replies = {}
for i = 3, #ARGV, 8 do
  replies[#replies + 1] = submit(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5],
    ARGV[i + 6], ARGV[i + 7])
end
return replies
