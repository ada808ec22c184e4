#!lua flags=allow-oom
-- A fencing token for a handler that runs.
-- KEYS  1 entries STREAM  2 fence STRING  3 token STRING
-- ARGV  1 group  2 consumer  3 entry id
-- Returns the token: higher than all that were given for this stream and group before; or 'FENCED', or
-- 'GONE' (the entry is not pending for this consumer any more).
-- A call whose reply was lost may be repeated: the token grows again.
-- Effects: the token is counted up.
if redis.call('EXISTS', KEYS[2]) == 1 then return 'FENCED' end
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1, ARGV[2])
if held.err or #held == 0 then return 'GONE' end
return redis.call('INCR', KEYS[3])
