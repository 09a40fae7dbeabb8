-- claim: take at most `slots` jobs from the lanes, in order, each with its attempt, lease and state in the same step.
-- ARGV   1 worker  2 slots  3 lease ms  4 ageing ms  5 retention of failed, s  6.. lanes in order of preference
-- Reply  {{{id, attempt, tries, crashes, request, created_at}, ...}, {lane whose group was made, ...}}
-- An entry is never left delivered to nobody: it is claimed, or answered here and removed.

local worker, slots, lease_ms, ageing_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local retain_sec = ARGV[5]
local claimed, created = {}, {}

local function expire(id, state, created_at)
  local error = cjson.encode({code = 'JOB_EXPIRED', message = 'The job had not started by its expires_at.',
    action = 'Submit it again with a later expires_at.', retryable = false})
  fail(id, state, created_at, retain_sec, 'expired', error, 0, 0, '')
end

local function malformed(lane, entry, id, why, fields)
  local error = cjson.encode({code = 'MALFORMED_ENTRY', message = why, retryable = false,
    action = 'Publish with the submit script only.'})
  bury(id, 'malformed', error, 0, 0, lane .. ' ' .. entry .. ' ' .. cjson.encode(fields))
  remove(lane, entry)
end

local function take(lane, entry, fields)
  local id = fields[1] == 'job' and fields[2] or ''
  local held = redis.call('HMGET', JOB .. id, 'state', 'entry', 'attempt', 'spared', 'crashes', 'expires_at',
    'created_at', 'request', 'worker')
  local state, attempt, crashes = held[1], tonumber(held[3] or 0), tonumber(held[5] or 0)
  if id == '' then return malformed(lane, entry, '', 'The entry names no job.', fields) end
  if not state or not held[8] then return malformed(lane, entry, id, 'The entry names an unknown job.', fields) end
  if held[2] ~= entry or (state ~= 'pending' and state ~= 'processing') then
    return remove(lane, entry)  -- a tombstone: cancelled while it waited, or a duplicate of a requeued job
  end
  if held[9] then return nil end  -- delivered again by a group made anew, while its worker still holds it
  if attempt == 0 and held[6] and tonumber(held[6]) <= NOW then
    remove(lane, entry)
    return expire(id, state, held[7])
  end
  attempt = attempt + 1
  if state == 'pending' then
    move(id, 'pending', 'processing', held[7])
    redis.call('HSET', JOB .. id, 'started_at', NOW)
  end
  redis.call('ZADD', LEASES, NOW + lease_ms, id)
  redis.call('HSET', JOB .. id, 'state', 'processing', 'worker', worker, 'attempt', attempt, 'updated_at', NOW)
  redis.call('HDEL', JOB .. id, 'retry_at')
  emit(id, 'claimed', {attempt = attempt, worker = worker})
  claimed[#claimed + 1] = {id, attempt, attempt - tonumber(held[4] or 0), crashes, held[8], held[7]}
end

-- Read at most `count` new entries of a lane; make its group if it is not there (from 0: nothing is missed).
local function read(lane, count)
  if redis.call('EXISTS', LANE .. lane) == 0 then return nil end
  local function attempt()
    return redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', LANE .. lane, '>')
  end
  local reply = attempt()
  if reply and reply.err and string.find(tostring(reply.err), 'NOGROUP', 1, true) then
    redis.call('XGROUP', 'CREATE', LANE .. lane, GROUP, '0')
    created[#created + 1] = lane
    return attempt()
  end
  return reply
end

local function entries_of(reply)
  if not reply or #reply == 0 then return {} end
  if type(reply[1]) == 'table' then return reply[1][2] end
  return reply[2]  -- fakeredis leaves out one level
end

-- Take up to `most` jobs of a lane; entries that come to nothing are passed over, in bounded rounds.
local function drain(lane, most)
  local wanted = #claimed + most
  for _ = 1, 20 do
    if #claimed >= wanted then return nil end
    local reply = read(lane, wanted - #claimed)
    if reply and reply.err then return reply end
    local entries = entries_of(reply)
    if #entries == 0 then return nil end
    for _, entry in ipairs(entries) do take(lane, entry[1], entry[2]) end
  end
end

-- When the lane's next undelivered entry was added, ms; nil when there is none.
local function head_ms(lane)
  local groups = redis.pcall('XINFO', 'GROUPS', LANE .. lane)
  if not groups or groups.err then return nil end
  local last, group = '0-0', groups[1] or {}
  for i = 1, #group, 2 do
    if group[i] == 'last-delivered-id' then last = group[i + 1] end
  end
  local following = redis.call('XRANGE', LANE .. lane, '(' .. last, '+', 'COUNT', 1)
  return following[1] and tonumber(string.match(following[1][1], '^%d+'))
end

-- The normal lane whose next entry has waited longest, if that is longer than the ageing time.
local function most_aged()
  local oldest, found = NOW - ageing_ms, nil
  for i = 6, #ARGV do
    local since = string.match(ARGV[i], ':normal$') and head_ms(ARGV[i])
    if since and since <= oldest then oldest, found = since, ARGV[i] end
  end
  return found
end

-- One aged job goes before the high ones: normal jobs wait, but never for ever.
local old_lane = most_aged()
local refused = old_lane and drain(old_lane, 1)
for i = 6, #ARGV do
  if refused then return refused end
  if #claimed >= slots then break end
  refused = drain(ARGV[i], slots - #claimed)
end
return refused or {claimed, created}
