#!lua flags=allow-oom
-- A new leader takes over a run that the one before it has left. Only for the leader.
-- KEYS  1 runs HASH
-- ARGV  1 number of the run  2 who leads
-- Returns how often the run has been begun with this time; 0 if it has ended.
-- Effects: it is counted.
local run = redis.call('HGET', KEYS[1], ARGV[1])
if not run then return 0 end
local fired, began, attempts, asked = string.match(run, '^(%S+) (%S+) (%d+) (%d) ')
attempts = tonumber(attempts) + 1
redis.call('HSET', KEYS[1], ARGV[1], string.format('%s %s %d %s %s', fired, began, attempts, asked,
  ARGV[2]))
return attempts
