#!lua flags=allow-oom
-- Gives up a subscription on one stream: nobody reads it any more.
-- KEYS  1 entries STREAM  2 audit STREAM  3 state HASH  4 owner STRING  then what else is kept of it:
--       parked ZSET, options HASH, suspects ZSET, suspect STRING, passed STRING, done HASH,
--       done.old HASH, wake STREAM
-- ARGV  1 group  2 who does it  3 why
-- Returns {1 if it was there, unread and unsettled entries that it had, at least}. Dead letters,
-- business keys and the audit stay.
-- Effects, in order: 1 audit record  2 the group goes  3 what was kept of it goes, and its states.
--@include _time.lua
--@include _ids.lua
local entries, group = KEYS[1], ARGV[1]
local groups = redis.pcall('XINFO', 'GROUPS', entries)
local left, known = 0, false
for _, fields in ipairs(groups.err and {} or groups) do
  local info = info_of(fields)
  if info['name'] == group then
    known = true
    left = info['pending'] + (info['lag'] or 0)
  end
end
if known then
  local _, now_ms = server_time()
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 100000, '*', 'r', cjson.encode({writer = ARGV[2],
    batch = 0, at = now_ms, n = 0, latency = {}, action = 'abandon', left = left, why = ARGV[3]}))
  redis.call('XGROUP', 'DESTROY', entries, group)
end
for i = 4, #KEYS do redis.call('UNLINK', KEYS[i]) end
local prefix = group .. ' '
for _, field in ipairs(redis.call('HKEYS', KEYS[3])) do
  if string.sub(field, 1, #prefix) == prefix then redis.call('HDEL', KEYS[3], field) end
end
return {known and 1 or 0, left}
