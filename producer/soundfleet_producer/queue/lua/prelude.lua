-- Shared by every verb: names for the keys, the clock, and the few moves that all verbs are made of.
-- KEYS   prefixes (an id is appended): 1 job  2 events  3 channel  4 lane  5 bell  6 cache  7 control
--        whole keys:   8 jobs  9 leases  10 delayed  11 dead  12 lanes  13 expiries  14 turns  15 pace
--        another prefix:  16 waiters
-- All of them carry the namespace's hash tag, so that they lie in one slot of a Cluster.

local JOB, EVENTS, CHANNEL, LANE, BELL, CACHE, CONTROL = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local JOBS, LEASES, DELAYED, DEAD, LANES = KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]
local EXPIRIES, TURNS, PACE, WAITERS = KEYS[13], KEYS[14], KEYS[15], KEYS[16]

local GROUP = 'workers'
local EVENTS_KEPT = 1000   -- per job, about: six attempts that report every 5 seconds for 10 minutes
local LETTERS_KEPT = 100000
local BELL_TOKENS = 64     -- at most so many workers are woken at once
local BELL_SECONDS = 60

local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- Append an event to the job's stream and publish the same document.
local function emit(id, kind, fields)
  fields.job_id, fields.type, fields.at_ms = id, kind, NOW
  local document = cjson.encode(fields)
  redis.call('XADD', EVENTS .. id, 'MAXLEN', '~', EVENTS_KEPT, '*', 'event', document)
  redis.call('PUBLISH', CHANNEL .. id, document)
end

-- Move a job from one state's index to another's.
local function move(id, from, to, created_at)
  redis.call('ZREM', JOBS .. ':' .. from, id)
  redis.call('ZADD', JOBS .. ':' .. to, created_at, id)
end

-- Add an entry for a job to its lane, and wake one worker. Returns the entry's id.
-- A bell that has tokens enough is left alone: a fleet with a backlog claims without being woken.
local function enqueue(id, lane)
  local bell = BELL .. string.match(lane, '^(.*):')
  local tokens = redis.call('LLEN', bell)
  redis.call('SADD', LANES, lane)
  if tokens < BELL_TOKENS then
    redis.call('LPUSH', bell, id)
    redis.call('EXPIRE', bell, BELL_SECONDS)
  end
  return redis.call('XADD', LANE .. lane, '*', 'job', id)
end

-- Take an entry out of its lane. Acknowledge before deleting, or a ghost stays in the pending list.
local function remove(lane, entry)
  redis.call('XACK', LANE .. lane, GROUP, entry)
  redis.call('XDEL', LANE .. lane, entry)
end

-- Write a dead letter. Returns its id.
local function bury(id, reason, error, attempts, crashes, detail)
  return redis.call('XADD', DEAD, 'MAXLEN', '~', LETTERS_KEPT, '*', 'job', id, 'reason', reason, 'error', error,
    'attempts', attempts, 'crashes', crashes, 'at_ms', NOW, 'detail', detail)
end

-- Let the jobs that wait for this one look again at once.
local function wake_waiters(id)
  for _, waiter in ipairs(redis.call('SMEMBERS', WAITERS .. id)) do
    redis.call('ZADD', DELAYED, 'XX', NOW, waiter)
  end
  redis.call('DEL', WAITERS .. id)
end

-- Bring a job to a final state: index, times, retention. `pairs` are further fields to write.
local function finish(id, from, to, created_at, retain_sec, ...)
  move(id, from, to, created_at)
  redis.call('ZREM', LEASES, id)
  redis.call('HDEL', JOB .. id, 'retry_at', 'entry')
  redis.call('HSET', JOB .. id, 'state', to, 'finished_at', NOW, 'updated_at', NOW, ...)
  redis.call('EXPIRE', JOB .. id, retain_sec)
  wake_waiters(id)
end

-- Events outlive their job's last change by the job's own retention.
local function retire_events(id, retain_sec)
  redis.call('EXPIRE', EVENTS .. id, retain_sec)
end

-- Fail a job for good, with its dead letter.
local function fail(id, from, created_at, retain_sec, reason, error, attempt, crashes, detail)
  local letter = bury(id, reason, error, attempt, crashes, detail)
  finish(id, from, 'failed', created_at, retain_sec, 'error', error, 'letter', letter)
  emit(id, 'failed', {attempt = tonumber(attempt), error = cjson.decode(error)})
  retire_events(id, retain_sec)
end

-- An ErrorInfo, as JSON.
local function error_info(code, message, action)
  return cjson.encode({code = code, message = message, action = action, retryable = false})
end

-- What a job does: its lane says it, or, while its sources are being fetched, its request, if that can be read.
local function kind_of(id)
  local held = redis.call('HMGET', JOB .. id, 'lane', 'request')
  local kind = string.match(held[1] or '', '^(%l+)%.')
  if kind ~= 'fetch' then return kind end
  local read, request = pcall(cjson.decode, held[2] or '')
  return read and type(request) == 'table' and request.kind
end

-- Cancel a job for good. `error` says at which step it stopped; without one, only that it was cancelled.
local function cancel_now(id, from, created_at, retain_sec, attempt, error)
  if not error then
    local code = kind_of(id) == 'separate' and 'SEPARATION_CANCELLED' or 'GENERATION_CANCELLED'
    error = error_info(code, 'The job was cancelled.', '')
  end
  redis.call('ZREM', DELAYED, id)
  finish(id, from, 'cancelled', created_at, retain_sec, 'error', error)
  emit(id, 'cancelled', {attempt = tonumber(attempt), error = cjson.decode(error)})
  retire_events(id, retain_sec)
end

-- Fail a job that had not started in time; `attempt` is that of its download, if it had one.
local function expire(id, from, created_at, retain_sec, attempt, crashes)
  local error = error_info('JOB_EXPIRED', 'The job had not started by its expires_at.',
    'Submit it again with a later expires_at.')
  fail(id, from, created_at, retain_sec, 'expired', error, attempt or 0, crashes or 0, '')
end

-- Put a job that was in a worker's hands back into its lane, before those that have not had their turn: through the
-- high lane, whatever its own is. It is in no stage then.
local function give_back(id, lane)
  local front = string.match(lane, '^(.*):') .. ':high'
  redis.call('HDEL', JOB .. id, 'stage')
  redis.call('HSET', JOB .. id, 'lane', front, 'entry', enqueue(id, front), 'updated_at', NOW, 'progress', 0)
end

-- The fence: whether (worker, attempt) still owns the job.
local function owns(id, worker, attempt)
  local held = redis.call('HMGET', JOB .. id, 'state', 'worker', 'attempt')
  return held[1] == 'processing' and held[2] == worker and held[3] == attempt
end
