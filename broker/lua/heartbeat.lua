#!lua flags=allow-oom
-- One process says that it lives, and one of them becomes, or stays, the reclaimer.
-- KEYS  1 seen ZSET  2 clients HASH  3 lease STRING
-- ARGV  1 consumer  2 its connection: "RUN_ID CLIENT_ID", or '' if unknown  3 lease, ms
--       4 silence after which a process is dead, ms
-- Returns 0, or for the reclaimer {consumers dead by silence, clients as field, value, ...}.
-- Effects, in order: 1 the heartbeat  2 the lease.
--@include _time.lua
local _, now_ms = server_time()
redis.call('ZADD', KEYS[1], now_ms, ARGV[1])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], ARGV[1], ARGV[2]) end
local holder = redis.call('GET', KEYS[3])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
local dead = redis.call('ZRANGE', KEYS[1], '-inf', '(' .. (now_ms - tonumber(ARGV[4])), 'BYSCORE',
  'LIMIT', 0, 16)
return {dead, redis.call('HGETALL', KEYS[2])}
