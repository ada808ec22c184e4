#!lua flags=allow-oom
-- Deletes the oldest dead letters of one stream that have outlived their time. Harmless to repeat.
-- KEYS  1 dead STREAM  2 audit STREAM
-- ARGV  1 time to live, ms  2 at most so many  3 who does it
-- Returns how many were deleted.
-- Effects, in order: 1 one audit record  2 XDEL (never XTRIM MINID, see purge.lua).
--@include _time.lua
--@include _operator.lua
local dead, audit = KEYS[1], KEYS[2]
local refused = operator_misplaced({dead, 'stream', audit, 'stream'})
if refused then return refused end
local _, now_ms = server_time()
local before = string.format('(%.0f-0', math.max(now_ms - tonumber(ARGV[1]), 0))
local ids = {}
for i, letter in ipairs(redis.call('XRANGE', dead, '-', before, 'COUNT', ARGV[2])) do
  ids[i] = letter[1]
end
if #ids == 0 then return 0 end
redis.call('XADD', audit, 'MAXLEN', '~', 100000, '*', 'r', cjson.encode({writer = ARGV[3], batch = 0,
  at = now_ms, n = 0, latency = {}, action = 'expire', letters = #ids, first = ids[1],
  last = ids[#ids]}))
redis.call('XDEL', dead, unpack(ids))
return #ids
