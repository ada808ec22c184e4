#!lua flags=allow-oom
-- A consumer wants no share of an ordered subscription's partitions any more, or has given some up.
-- KEYS  1 claimants HASH  2 shift STREAM
-- ARGV  1 consumer, or '' where it stays a claimant
-- Returns 1; 0 if it was no claimant: then nothing is done.
-- Effects, in order: 1 it is no claimant  2 all claimants are woken.
if ARGV[1] ~= '' and redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', 16, '*', 'w', 1)
return 1
