#!lua flags=allow-oom
-- Says what a replay still needs of the logs.
-- KEYS  1 running HASH
-- ARGV  1 replay  2 what it needs, JSON; '' = nothing any more
-- Returns 1.
-- Effects: retention keeps that, or need not any more.
if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
