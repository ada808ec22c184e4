#!lua flags=allow-oom
-- Saves how far a replay has come, and renews or gives up the lease of the process that runs it.
-- KEYS  1 lease STRING  2 state HASH
-- ARGV  1 token of the process  2 number of its run  3 lease, ms; 0 = give it up
--       then fields and values
-- Returns 1; or 0 if another process has taken the replay over since: nothing was written.
-- Effects, in order: 1 fields, and `saved_ms`, the server's clock  2 the lease.
--@include _time.lua
if redis.call('HGET', KEYS[2], 'run') ~= ARGV[2] then return 0 end
local _, now_ms = server_time()
redis.call('HSET', KEYS[2], 'saved_ms', now_ms, unpack(ARGV, 4))
if ARGV[3] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
end
return 1
