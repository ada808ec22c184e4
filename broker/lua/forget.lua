#!lua flags=allow-oom
-- Drops a consumer of which everything was reclaimed.
-- KEYS  1 seen ZSET  2 clients HASH  3 reads HASH (of this consumer)  4 lease STRING
-- ARGV  1 consumer
-- Returns 1. The lease is given up if the consumer held it.
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('UNLINK', KEYS[3])
if redis.call('GET', KEYS[4]) == ARGV[1] then redis.call('UNLINK', KEYS[4]) end
return 1
