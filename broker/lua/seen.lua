#!lua flags=allow-oom
-- Notes which subscriptions somebody reads now.
-- KEYS  1 seen HASH
-- ARGV  1 number of those that somebody reads  then their names  then the others
-- Returns {now ms, name, since when nobody has read it, ms, ...} for all of them.
-- Effects, in order: 1 those that are read were seen now  2 those that were never seen count as seen
-- now, too.
--@include _time.lua
local _, now_ms = server_time()
local text = string.format('%.0f', now_ms)
local reply = {now_ms}
for i = 2, #ARGV do
  if i - 1 <= tonumber(ARGV[1]) then
    redis.call('HSET', KEYS[1], ARGV[i], text)
  else
    redis.call('HSETNX', KEYS[1], ARGV[i], text)
  end
  reply[#reply + 1] = ARGV[i]
  reply[#reply + 1] = tonumber(redis.call('HGET', KEYS[1], ARGV[i]))
end
return reply
