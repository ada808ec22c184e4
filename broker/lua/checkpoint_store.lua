#!lua
-- Stores a checkpoint. Harmless to repeat.
-- KEYS  1 index HASH  2 bodies HASH  3 audit STREAM
-- ARGV  1 its id  2 what a list shows of it, JSON  3 all of it, JSON  4 audit record, JSON
-- Returns 1, or 0 if it was there.
-- Effects, in order: 1 its body  2 its line in the index  3 audit record.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 100000, '*', 'r', ARGV[4])
return 1
