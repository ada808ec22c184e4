#!lua flags=no-writes
-- Reads all that is stopped, at one moment.
-- KEYS  1 breakers HASH  2 halts HASH  3 control STREAM
-- Returns {now ms, number of the last change, its entry id, {breaker, JSON, ...}, {scope, JSON, ...}}.
-- Effects: none.
--@include _time.lua
local _, now_ms = server_time()
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
return {now_ms, last and last[2][2] or '0', last and last[1] or '0-0',
  redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
