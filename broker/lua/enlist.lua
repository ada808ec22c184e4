#!lua flags=allow-oom
-- A consumer says what it is about to read, before it claims the first entry.
-- KEYS  1 alive HASH  2 reads HASH (of this consumer)
-- ARGV  1 consumer  2 queue  3 its sources, JSON
-- Returns 1.
--@include _time.lua
local _, now_ms = server_time()
redis.call('HSETNX', KEYS[1], ARGV[1], string.format('%.0f - 0', now_ms))
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
return 1
