#!lua flags=allow-oom
-- A scheduler process ends. If it led, the others are woken.
-- KEYS  1 lease STRING  2 members HASH  3 changes STREAM
-- ARGV  1 name of the process
-- Returns 1 if it led, else 0.
-- Effects, in order: 1 forgotten  2 the lease is given up  3 who stands by is woken.
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'a', 'abdicate', 's', '', 'by', ARGV[1])
return 1
