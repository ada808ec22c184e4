#!lua
-- Adds messages to one lane of a work queue, once, however often the call is repeated.
-- KEYS  1 entries STREAM  2 delayed ZSET  3 delayed.messages HASH  4 wake STREAM  5 producer STRING
-- ARGV  1 sequence number of this call by this producer
--       then triples: delay in ms or -1 for none, member (unique; used only with a delay), message
-- Returns 1, or 0 when this sequence number was done before (its reply was lost).
-- Effects, in order: 1 remember the sequence number  2 XADD, or ZADD and HSET  3 wake one reader
-- if a message is due earlier than all before.
--@include _time.lua
if redis.call('GET', KEYS[5]) == ARGV[1] then return 0 end
redis.call('SET', KEYS[5], ARGV[1], 'EX', 600)
local now_us, now_ms = server_time()
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local earliest, wake = tonumber(first[2]), false
for i = 2, #ARGV, 3 do
  local delay_ms = tonumber(ARGV[i])
  if delay_ms < 0 then
    redis.call('XADD', KEYS[1], '*', 'm', ARGV[i + 2], 'a', now_us)
  else
    local due = now_ms + delay_ms
    redis.call('HSET', KEYS[3], ARGV[i + 1], ARGV[i + 2])
    redis.call('ZADD', KEYS[2], due, ARGV[i + 1])
    if not earliest or due < earliest then earliest, wake = due, true end
  end
end
if wake then redis.call('XADD', KEYS[4], 'MAXLEN', 16, '*', 'w', 1) end
return 1
