#!lua flags=allow-oom
-- The layout of a log, fixed by whoever declares it first.
-- KEYS  1 layout STRING
-- ARGV  1 declared layout
-- Returns the layout that the log has.
local exists = redis.call('GET', KEYS[1])
if exists then return exists end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
