#!lua flags=allow-oom
-- A consumer says what it is about to read, before it claims the first entry.
-- KEYS  1 alive HASH  2 reads HASH (of this consumer)  3 known HASH
--       and if it wants a share of the queue's partitions: 4 claimants HASH  5 shift STREAM
-- ARGV  1 consumer  2 queue  3 its sources, JSON: a list of objects with a name
-- Returns 1.
-- Effects, in order: 1 it counts as alive  2 what it reads is recorded  3 the queue and its sources
-- are known from now on, also when nobody reads them any more  4 it claims its share, and all
-- claimants are woken.
--@include _time.lua
local _, now_ms = server_time()
local known = {}
for _, source in ipairs(cjson.decode(ARGV[3])) do
  known[#known + 1] = ARGV[2] .. ' ' .. source.name
  known[#known + 1] = string.format('%.0f', now_ms)
end
redis.call('HSETNX', KEYS[1], ARGV[1], string.format('%.0f - 0', now_ms))
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if #known > 0 then redis.call('HSET', KEYS[3], unpack(known)) end
if KEYS[4] then
  redis.call('HSET', KEYS[4], ARGV[1], string.format('%.0f', now_ms))
  redis.call('XADD', KEYS[5], 'MAXLEN', 16, '*', 'w', 1)
end
return 1
