#!lua flags=allow-oom
-- Forgets that events were handled.
-- KEYS  done marks, or business keys: HASHes
-- ARGV  fields; at most some hundred
-- Returns how many were there.
-- Effects: they go, from all of the hashes.
local gone = 0
for _, key in ipairs(KEYS) do gone = gone + redis.call('HDEL', key, unpack(ARGV)) end
return gone
