#!lua flags=allow-oom
-- Drops a consumer of which everything was reclaimed.
-- KEYS  1 alive HASH  2 reads HASH (of this consumer)  3 lease STRING
-- ARGV  1 consumer
-- Returns 1. The lease is given up if the consumer held it.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('UNLINK', KEYS[2])
if redis.call('GET', KEYS[3]) == ARGV[1] then redis.call('UNLINK', KEYS[3]) end
return 1
