#!lua flags=allow-oom
-- Forgets failures of closed breakers that are old: their keys may never come again.
-- KEYS  1 breakers HASH  2 control STREAM
-- ARGV  1 how old they are at least, ms  then the breakers
-- Returns how many were forgotten. Harmless to repeat.
-- Effects of each, in order: 1 the record goes  2 the change. (No state changes, so no audit record.)
--@include _time.lua
--@include _guards.lua
--@include _breaker.lua
local _, now_ms = server_time()
local forgotten = 0
for i = 2, #ARGV do
  local record = breaker_read(KEYS[1], ARGV[i])
  if record and record.state == 'closed' and record.last <= now_ms - tonumber(ARGV[1]) then
    redis.call('HDEL', KEYS[1], ARGV[i])
    guards_tell(KEYS[2], 'b', ARGV[i], '')
    forgotten = forgotten + 1
  end
end
return forgotten
