#!lua
-- Appends events to one stream of a log, each id once.
-- KEYS  1 entries STREAM   2 ids HASH   3 ids.old HASH
-- ARGV  1 window, ms       then pairs: event id (16 bytes), event (JSON)
-- Returns one entry id an event; "=ID" for an event that was there already.
-- Effects, in order: 1 rotate the id window  2 XADD each new event  3 remember the new ids.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _time.lua
--@include _window.lua
local window_ms = tonumber(ARGV[1])
local appended_us = server_time()
window_rotate(KEYS[2], KEYS[3], window_ms)

local ids = {}
for i = 2, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local known = window_lookup(KEYS[2], KEYS[3], ids)

local reply, fresh, seen = {}, {}, {}
for i = 1, #ids do
  local id = ids[i]
  local before = known[i] or seen[id]
  if before then
    reply[i] = '=' .. before
  else
    local entry = redis.call('XADD', KEYS[1], '*', 'd', ARGV[2 * i + 1], 'a', appended_us)
    seen[id] = entry
    reply[i] = entry
    fresh[#fresh + 1] = id
    fresh[#fresh + 1] = entry
  end
end
if #fresh > 0 then window_store(KEYS[2], fresh, window_ms) end
return reply
