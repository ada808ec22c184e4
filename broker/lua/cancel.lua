#!lua flags=allow-oom
-- Cancels messages of a work queue: what no consumer has claimed by now is not handed out any more,
-- and what runs is not retried.
-- KEYS  1 cancelled ZSET  2 delayed ZSET  then the lanes' entries STREAMs
-- ARGV  1 how long a cancelled id is kept beyond the time at which its message may still turn up, ms
--       then the message ids
-- Returns 1.
-- Effects, in order: 1 forget old ids whose messages are gone  2 remember the new ones: until the last
-- message that is delayed now is due, and the time of ARGV[1] longer (retries may be delayed too).
--@include _time.lua
local cancelled, keep_ms = KEYS[1], tonumber(ARGV[1])
local _, now_ms = server_time()
local until_ms = tonumber(redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2] or 0)
until_ms = math.max(now_ms, until_ms) + keep_ms

-- A message that is older than the ids to forget may wait in a lane still.
local forget_ms = now_ms
for i = 3, #KEYS do
  local oldest = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
  if oldest then
    forget_ms = math.min(forget_ms, tonumber(string.match(oldest[1], '^(%d+)')) + keep_ms)
  end
end
-- Or be overdue, while no worker runs.
local first_due = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
if first_due then forget_ms = math.min(forget_ms, tonumber(first_due) + keep_ms) end
local before = string.format('(%.0f', forget_ms)
local old = redis.call('ZRANGE', cancelled, '-inf', before, 'BYSCORE', 'LIMIT', 0, 1000)
if #old > 0 then redis.call('ZREM', cancelled, unpack(old)) end

local members = {}
for i = 2, #ARGV do
  members[#members + 1] = until_ms
  members[#members + 1] = ARGV[i]
end
redis.call('ZADD', cancelled, 'GT', unpack(members))
return 1
