#!lua
-- Adds messages to a work queue, in order as far as there is room, once, however often the call is
-- repeated.
-- KEYS  1-3 entries STREAM of each lane, from high to low  4 delayed ZSET  5 delayed.messages HASH
--       6 wake STREAM  7 producer STRING  8 cancelled ZSET
-- ARGV  1 sequence number of this call by this producer  2 limit of the backlog; 0 = none
--       then, for each message: lane (1-3), delay in ms or -1 for none, member (unique, with the
--       message id behind its first colon; stored only with a delay), message
-- Returns how many of the messages were accepted, and if not all were, how many are ready or running:
-- {accepted, backlog}. The first that finds no room ends it; delayed messages need none, and do not
-- count. When this sequence number was done before (its reply was lost), the same number accepted as
-- then; -1 when a later one was: this call was long on its way.
-- Effects, in order: 1 remember the sequence number and how many are accepted  2 a message that was
-- cancelled and is enqueued again is not cancelled any more  3 XADD, or ZADD and HSET  4 wake one reader if a message is due earlier than all before.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _time.lua
-- The sum of the lanes' lengths is exact: what is settled is deleted.
local function backlog()
  return redis.call('XLEN', KEYS[1]) + redis.call('XLEN', KEYS[2]) + redis.call('XLEN', KEYS[3])
end

local n = (#ARGV - 2) / 4
local function reply(accepted)
  if accepted == n then return n end
  return {accepted, backlog()}
end

local accepted = n
local limit = tonumber(ARGV[2])
if limit > 0 then
  local room = limit - backlog()
  accepted = 0
  for i = 4, #ARGV, 4 do
    if tonumber(ARGV[i]) < 0 then
      if room <= 0 then break end
      room = room - 1
    end
    accepted = accepted + 1
  end
end
local last = redis.call('SET', KEYS[7], ARGV[1] .. ' ' .. accepted, 'EX', 600, 'GET')
if last then
  local done, then_accepted = string.match(last, '^(%d+) (%d+)$')
  if tonumber(done) >= tonumber(ARGV[1]) then
    redis.call('SET', KEYS[7], last, 'EX', 600)
    return done == ARGV[1] and reply(tonumber(then_accepted)) or -1
  end
end
local now_us, now_ms = server_time()
local earliest
local wake = false
local lift = redis.call('EXISTS', KEYS[8]) == 1
for i = 3, 4 * accepted + 2, 4 do
  if lift then redis.call('ZREM', KEYS[8], string.match(ARGV[i + 2], ':(.*)$')) end
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
return reply(accepted)
