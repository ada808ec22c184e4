#!lua flags=allow-oom
-- The owner of a partition gives it up. What it has claimed and not settled stays its own.
-- KEYS  1 owner STRING
-- ARGV  1 consumer
-- Returns 1 if it was the owner, else 0.
-- Effects: there is no owner.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('UNLINK', KEYS[1])
return 1
