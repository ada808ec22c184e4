#!lua flags=allow-oom
-- Ends the halt of a scope.
-- KEYS  1 halts HASH  2 control STREAM  3 audit STREAM
-- ARGV  1 scope  2 why  3 by whom
-- Returns the halt as JSON, or false if there was none. Repeated, it finds none.
-- Effects, in order: 1 audit record  2 the halt goes  3 the change.
--@include _time.lua
--@include _guards.lua
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before then return false end
local _, now_ms = server_time()
guards_audit(KEYS[3], now_ms, 'halt', ARGV[1], 'halted', 'running', ARGV[2], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
guards_tell(KEYS[2], 'h', ARGV[1], '')
return before
