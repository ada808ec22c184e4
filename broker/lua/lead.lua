#!lua flags=allow-oom
-- A scheduler process wants to lead, or to go on leading.
-- KEYS  1 lease STRING  2 leader STRING  3 members HASH  4 changes STREAM
-- ARGV  1 name of the process  2 how long the lease holds, ms  3 after how long a silent process is
--       forgotten, ms
-- Returns {epoch, or 0 if somebody else leads, the server's clock ms, what is left of the lease ms,
-- who leads, id of the newest change}.
-- The epoch grows with each new leader; it stays where the last one leads again. Harmless to repeat.
-- Effects, in order: 1 heard of  2 the lease is taken or renewed  3 the epoch grows
-- 4 processes that are long silent are forgotten.
--@include _time.lua
local name = ARGV[1]
local _, now_ms = server_time()
redis.call('HSET', KEYS[3], name, string.format('%d', now_ms))
local newest = redis.call('XREVRANGE', KEYS[4], '+', '-', 'COUNT', 1)[1]
newest = newest and newest[1] or '0-0'
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= name then
  return {0, now_ms, redis.call('PTTL', KEYS[1]), holder, newest}
end
redis.call('SET', KEYS[1], name, 'PX', ARGV[2])
local epoch, last = string.match(redis.call('GET', KEYS[2]) or '0 ', '^(%d+) (.*)$')
epoch = tonumber(epoch)
if last ~= name then
  epoch = epoch + 1
  redis.call('SET', KEYS[2], string.format('%d %s', epoch, name))
end
local members = redis.call('HGETALL', KEYS[3])
for i = 1, #members, 2 do
  if now_ms - tonumber(members[i + 1]) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[3], members[i])
  end
end
return {epoch, now_ms, tonumber(ARGV[2]), name, newest}
