#!lua
-- Adds messages to a work queue, once, however often the call is repeated.
-- KEYS  1-3 entries STREAM of each lane, from high to low  4 delayed ZSET  5 delayed.messages HASH
--       6 wake STREAM  7 producer STRING
-- ARGV  1 sequence number of this call by this producer
--       then, for each message: lane (1-3), delay in ms or -1 for none, member (unique; used only
--       with a delay), message
-- Returns 1, or 0 when this sequence number, or a later one, was done before: its reply was lost, or
-- it was long on its way.
-- Effects, in order: 1 remember the sequence number  2 XADD, or ZADD and HSET  3 wake one reader
-- if a message is due earlier than all before.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _time.lua
if tonumber(redis.call('GET', KEYS[7]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[7], ARGV[1], 'EX', 600)
local now_us, now_ms = server_time()
local earliest
local wake = false
for i = 2, #ARGV, 4 do
  local delay_ms = tonumber(ARGV[i + 1])
  if delay_ms < 0 then
    redis.call('XADD', KEYS[tonumber(ARGV[i])], '*', 'm', ARGV[i + 3], 'a', now_us)
  else
    if not earliest then
      local first = redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES')
      earliest = tonumber(first[2]) or math.huge
    end
    local due = now_ms + delay_ms
    redis.call('HSET', KEYS[5], ARGV[i + 2], ARGV[i + 3])
    redis.call('ZADD', KEYS[4], due, ARGV[i + 2])
    if due < earliest then earliest, wake = due, true end
  end
end
if wake then redis.call('XADD', KEYS[6], 'MAXLEN', 16, '*', 'w', 1) end
return 1
