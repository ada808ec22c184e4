#!lua flags=no-writes
-- When is the next parked or delayed entry due? All that an idle queue asks between two waits.
-- KEYS  1..n ZSETs of due times, ms
-- Returns milliseconds from now, 0 if one is due, -1 if none waits.
--@include _time.lua
if redis.call('EXISTS', unpack(KEYS)) == 0 then return -1 end
local _, now_ms = server_time()
local next_due
for i = 1, #KEYS do
  local due = tonumber(redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')[2])
  if due and (not next_due or due < next_due) then next_due = due end
end
if not next_due then return -1 end
return math.max(0, math.ceil(next_due - now_ms))
