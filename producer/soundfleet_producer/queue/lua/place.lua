-- place: how many jobs go before one that waits in its lane: all of the high lane first, then its own. Changes nothing.
-- ARGV   1 id  2 most that are counted
-- Reply  jobs before it (cancelled ones that still have an entry are counted), or nil when it does not wait in a lane

local id, most = ARGV[1], tonumber(ARGV[2])

-- Undelivered entries of a lane, at most so many, those before `stop` only ('+': all of them).
local function undelivered(lane, stop, most)
  local groups = redis.pcall('XINFO', 'GROUPS', LANE .. lane)
  if not groups or groups.err then groups = {} end  -- no such lane yet
  local last, group = '0-0', groups[1] or {}
  for i = 1, #group, 2 do
    if group[i] == 'last-delivered-id' then last = group[i + 1] end
  end
  return #redis.call('XRANGE', LANE .. lane, '(' .. last, stop, 'COUNT', most)
end

local held = redis.call('HMGET', JOB .. id, 'state', 'lane', 'entry', 'worker')
if not held[3] or held[4] or (held[1] ~= 'pending' and held[1] ~= 'processing') then return nil end
local lane, high = held[2], string.match(held[2], '^(.*):') .. ':high'
local ahead = lane == high and 0 or undelivered(high, '+', most)
if ahead < most then ahead = ahead + undelivered(lane, '(' .. held[3], most - ahead) end
return ahead
