#!lua flags=allow-oom
-- One process says that it lives, and one of them becomes, or stays, the reclaimer.
-- KEYS  1 alive HASH  2 lease STRING  3 arrivals STREAM
-- ARGV  1 consumer  2 its connection: "RUN_ID CLIENT_ID" ("- 0" if unknown)  3 lease, ms
--       4 a holder of the lease that is believed dead, or ''  5 '1' if it held the lease, else ''
--       6 '1' if the connection is new, else ''  7 its health record, JSON
-- Returns {1, now ms, listed, consumer, "MS RUN_ID CLIENT_ID RECORD", ...} to the reclaimer: all that
-- live, and {0, now ms, listed, holder, "MS RUN_ID CLIENT_ID RECORD" or false} to the others. listed:
-- whether the server knew this consumer (1); if not (0), and it was there before, it was declared dead.
-- Effects, in order: 1 the heartbeat  2 its arrival  3 the lease.
--@include _time.lua
local _, now_ms = server_time()
local text = string.format('%.0f ', now_ms) .. ARGV[2] .. ' ' .. ARGV[7]
local listed = 1 - redis.call('HSET', KEYS[1], ARGV[1], text)
if ARGV[6] == '1' then
  redis.call('XADD', KEYS[3], 'MAXLEN', 1000, '*', 'c', ARGV[1], 'at', ARGV[2])
end
local holder
if ARGV[5] == '1' then
  -- Most likely still its own: one command instead of two.
  holder = redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3], 'GET')
  if holder and holder ~= ARGV[1] and holder ~= ARGV[4] then
    redis.call('SET', KEYS[2], holder, 'PX', ARGV[3])
    return {0, now_ms, listed, holder, redis.call('HGET', KEYS[1], holder)}
  end
else
  holder = redis.call('GET', KEYS[2])
  if holder and holder ~= ARGV[1] and holder ~= ARGV[4] then
    return {0, now_ms, listed, holder, redis.call('HGET', KEYS[1], holder)}
  end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
end
local reply = {1, now_ms, listed}
for i, part in ipairs(redis.call('HGETALL', KEYS[1])) do reply[i + 3] = part end
return reply
