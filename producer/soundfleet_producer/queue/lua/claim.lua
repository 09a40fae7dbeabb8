-- claim: take at most `slots` jobs from the lanes, in order, each with its attempt, lease and state in the same step.
-- ARGV   1 worker  2 slots  3 lease ms  4 ageing ms  5 retention of failed, s  6.. lanes in order of preference
-- Reply  {{{id, attempt, tries, crashes, request, created_at, fetched or ''}, ...}, {lane whose group was made, ...},
--         more 1|0}
-- `more`: the claim stopped at its bound of rounds, and there may be jobs behind the entries that it passed over.
-- An entry is never left delivered to nobody: it is claimed, or answered here and removed.

local worker, slots, lease_ms, ageing_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local retain_sec = ARGV[5]
local ROUNDS = 20       -- reads of one lane in one claim
local AGED_SHARE = 4    -- one claim in so many gives an aged job the way
local claimed, created, more = {}, {}, 0

-- Bury an entry that cannot become a run; the job that it names, if it is one, fails with it.
local function reject(lane, entry, id, why, fields)
  local error = error_info('MALFORMED_ENTRY', why, 'Publish with the submit script only.')
  local letter = bury(id, 'malformed', error, 0, 0, lane .. ' ' .. entry .. ' ' .. cjson.encode(fields))
  remove(lane, entry)
  local held = id ~= '' and redis.pcall('HMGET', JOB .. id, 'state', 'created_at')
  if not held or held.err then return nil end
  if held[1] == 'pending' or held[1] == 'processing' then
    finish(id, held[1], 'failed', tonumber(held[2]) or NOW, retain_sec, 'error', error, 'letter', letter)
    emit(id, 'failed', {error = cjson.decode(error)})
    retire_events(id, retain_sec)
  end
end

-- What makes a record unfit to be run, or nil. Looked at before anything is written.
local function flaw(held)
  if not held[8] then return 'The job has no request.' end
  if not tonumber(held[7]) then return 'The job has no created_at.' end
  for i = 3, 6 do
    if held[i] and not tonumber(held[i]) then return 'The job has a count or a time that is no number.' end
  end
end

local function start(id, held)
  local attempt = tonumber(held[3] or 0) + 1
  if held[1] == 'pending' then
    move(id, 'pending', 'processing', held[7])
    redis.call('HSET', JOB .. id, 'started_at', NOW)
  end
  redis.call('ZADD', LEASES, NOW + lease_ms, id)
  redis.call('HSET', JOB .. id, 'state', 'processing', 'worker', worker, 'attempt', attempt, 'updated_at', NOW)
  redis.call('HDEL', JOB .. id, 'retry_at')
  emit(id, 'claimed', {attempt = attempt, worker = worker})
  claimed[#claimed + 1] = {id, attempt, attempt - tonumber(held[4] or 0), tonumber(held[5] or 0), held[8], held[7],
    held[11] or ''}
end

local function take(lane, entry, fields)
  local id = fields[1] == 'job' and fields[2] or ''
  if id == '' then return reject(lane, entry, '', 'The entry names no job.', fields) end
  local held = redis.pcall('HMGET', JOB .. id, 'state', 'entry', 'attempt', 'spared', 'crashes', 'expires_at',
    'created_at', 'request', 'worker', 'cancel', 'fetched', 'forwarded')
  if held.err then return reject(lane, entry, id, "The job's key holds no record.", fields) end
  local state = held[1]
  if not state then
    local added_ms = tonumber(string.match(entry, '^%d+'))
    if added_ms + tonumber(retain_sec) * 1000 <= NOW then return remove(lane, entry) end  -- ended, and forgotten since
    return reject(lane, entry, id, 'The entry names an unknown job.', fields)
  end
  if held[2] ~= entry or (state ~= 'pending' and state ~= 'processing') then
    return remove(lane, entry)  -- a tombstone: ended while it waited, or a duplicate of a job that was put back
  end
  if held[9] then return nil end  -- delivered again by a group made anew, while its worker still holds it
  local wrong = flaw(held)
  if wrong then return reject(lane, entry, id, wrong, fields) end
  if held[10] then
    remove(lane, entry)
    return cancel_now(id, state, held[7], retain_sec, held[3] or 0)
  end
  local unbegun = state == 'pending' or (held[12] and held[12] == held[3])
  if unbegun and held[6] and tonumber(held[6]) <= NOW then
    remove(lane, entry)
    return expire(id, state, held[7], retain_sec, held[3], held[5])
  end
  start(id, held)
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
  for _ = 1, ROUNDS do
    if #claimed >= wanted then return nil end
    local reply = read(lane, wanted - #claimed)
    if reply and reply.err then return reply end
    local entries = entries_of(reply)
    if #entries == 0 then return nil end
    for _, entry in ipairs(entries) do take(lane, entry[1], entry[2]) end
  end
  if #claimed < wanted then more = 1 end
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

-- The lane of a priority whose next entry has waited longest, and since when.
local function oldest(priority)
  local since, found
  for i = 6, #ARGV do
    local head = string.match(ARGV[i], ':' .. priority .. '$') and head_ms(ARGV[i])
    if head and (not since or head < since) then since, found = head, ARGV[i] end
  end
  return found, since
end

-- The normal lane that goes first this time: its next job is aged, all high ones are younger, and it is its turn.
local function aged_lane()
  local lane, since = oldest('normal')
  if not lane or since + ageing_ms > NOW then return nil end
  local high, high_since = oldest('high')
  if not high or high_since <= since then return nil end
  return redis.call('INCR', TURNS) % AGED_SHARE == 0 and lane or nil
end

if slots < 1 then return {claimed, created, more} end
local old_lane = aged_lane()
local refused = old_lane and drain(old_lane, 1)
for i = 6, #ARGV do
  if refused then return refused end
  if #claimed >= slots then break end
  refused = drain(ARGV[i], slots - #claimed)
end
return refused or {claimed, created, more}
