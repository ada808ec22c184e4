#!lua
-- Adds messages to a work queue, in order as far as there is room, once, however often the call is
-- repeated.
-- KEYS  1-3 entries STREAM of each lane, from high to low  4 delayed ZSET  5 delayed.messages HASH
--       6 wake STREAM  7 producer STRING
-- ARGV  1 sequence number of this call by this producer  2 limit of the backlog; 0 = none
--       then, for each message: lane (1-3), delay in ms or -1 for none, member (unique; used only
--       with a delay), message
-- Returns {accepted, backlog}: how many of the messages were added, and how many are ready or running
-- now. The first that finds no room ends it; delayed messages need none, and do not count. When this
-- sequence number was done before (its reply was lost), the same number accepted as then; {-1, 0}
-- when a later one was: this call was long on its way.
-- Effects, in order: 1 remember the sequence number and how many are accepted  2 XADD, or ZADD and
-- HSET  3 wake one reader if a message is due earlier than all before.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _time.lua
-- The sum of the lanes' lengths is exact: what is settled is deleted.
local function backlog()
  return redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2]) + redis.call('XLEN', KEYS[3])
end

local last = redis.call('GET', KEYS[7])
if last then
  local done, accepted = string.match(last, '^(%d+) (%d+)$')
  if done == ARGV[1] then return {tonumber(accepted), backlog()} end
  if tonumber(done) > tonumber(ARGV[1]) then return {-1, 0} end
end

local limit = tonumber(ARGV[2])
local before = backlog()
local room = limit > 0 and limit - before or math.huge
local accepted, added = 0, 0
for i = 3, #ARGV, 4 do
  if tonumber(ARGV[i + 1]) < 0 then
    if added >= room then break end
    added = added + 1
  end
  accepted = accepted + 1
end
redis.call('SET', KEYS[7], ARGV[1] .. ' ' .. accepted, 'EX', 600)
local now_us, now_ms = server_time()
local earliest
local wake = false
for i = 3, 4 * accepted + 2, 4 do
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
return {accepted, before + added}
