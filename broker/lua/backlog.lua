#!lua flags=no-writes
-- Counts what a work queue holds in one moment: ready, pending and delayed messages.
-- KEYS  1 delayed ZSET  then the lanes' entries STREAMs
-- Returns the sum. A settled message is deleted, so a stream's length is ready plus pending.
local held = redis.call('ZCARD', KEYS[1])
for i = 2, #KEYS do held = held + redis.call('XLEN', KEYS[i]) end
return held
