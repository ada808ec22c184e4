#!lua flags=allow-oom
-- Makes a process the one that runs a replay, if no other one does.
-- KEYS  1 lease STRING  2 state HASH
-- ARGV  1 token of the process  2 lease, ms
-- Returns the number of this run, from 1; or, negative, how many ms the lease of another process
-- still holds. Repeated by the process that has the lease: the number of its run.
-- Effects, in order: 1 the run is counted, so that what an earlier one still saves is refused
-- 2 the lease is set.
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[1] then return tonumber(redis.call('HGET', KEYS[2], 'run')) end
if holder then return -math.max(1, redis.call('PTTL', KEYS[1])) end
local run = redis.call('HINCRBY', KEYS[2], 'run', 1)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return run
