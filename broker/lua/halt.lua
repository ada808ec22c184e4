#!lua flags=allow-oom
-- Halts a scope. One that is halted stays as it is: the first reason is the one that counts.
-- KEYS  1 halts HASH  2 control STREAM  3 audit STREAM
-- ARGV  1 scope  2 why  3 by whom  4 names this call
-- Returns {1 if this call halted it, else 0; the halt as JSON}. Harmless to repeat with the same name.
-- Effects, in order: 1 audit record  2 the halt  3 the change.
--@include _time.lua
--@include _guards.lua
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then return {cjson.decode(before).call == ARGV[4] and 1 or 0, before} end
local _, now_ms = server_time()
local text = cjson.encode({why = ARGV[2], by = ARGV[3], since = now_ms, call = ARGV[4]})
guards_audit(KEYS[3], now_ms, 'halt', ARGV[1], 'running', 'halted', ARGV[2], ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], text)
guards_tell(KEYS[2], 'h', ARGV[1], text)
return {1, text}
