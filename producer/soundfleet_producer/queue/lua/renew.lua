-- renew: extend the leases of many runs of one worker.
-- ARGV   1 worker  2 lease ms  3.. id, attempt, id, attempt, ...
-- Reply  {ok|cancel|superseded, ...} in the order given

local worker, lease_ms = ARGV[1], tonumber(ARGV[2])
local words = {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  if not owns(id, worker, ARGV[i + 1]) then
    words[#words + 1] = 'superseded'
  else
    redis.call('ZADD', LEASES, NOW + lease_ms, id)
    words[#words + 1] = redis.call('HEXISTS', JOB .. id, 'cancel') == 1 and 'cancel' or 'ok'
  end
end
return words
