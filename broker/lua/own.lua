#!lua flags=allow-oom
-- A consumer becomes the owner of a partition that has none.
-- KEYS  1 owner STRING  2 epoch STRING  3 fence STRING  4 entries STREAM  5 parked ZSET
--       6 suspects ZSET  7 wake STREAM
-- ARGV  1 group  2 consumer
-- Returns {'FENCED'}; {owner} if somebody else is; or
-- {'', epoch, last entry id that was ever read, id of the newest wake-up, expected, elsewhere}:
--   expected   ids of entries that wait for a retry, or to be run alone; and of those that were
--              handed back and cannot be taken in their order: too many of one millisecond, or due
--              later, since the server's clock was set back
--   elsewhere  pairs of id and consumer: claimed, and not settled yet (its own name too)
-- Other entries that were handed back are in neither: they are taken in their order, before all that
-- is new.
-- Harmless to repeat: the owner gets the same again, and the epoch stays.
-- Effects, in order: 1 it is the owner  2 the epoch grows.
--@include _order.lua
--@include _time.lua
local group, consumer = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[3]) == 1 then return {'FENCED'} end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= consumer then return {owner} end
local epoch
if owner then
  epoch = tonumber(redis.call('GET', KEYS[2]) or 0)
else
  redis.call('SET', KEYS[1], consumer)
  epoch = redis.call('INCR', KEYS[2])
end

local last, groups = '0-0', redis.pcall('XINFO', 'GROUPS', KEYS[4])
for _, fields in ipairs(groups.err and {} or groups) do
  local info = {}
  for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
  if info['name'] == group then last = info['last-delivered-id'] end
end
local woken = redis.call('XREVRANGE', KEYS[7], '+', '-', 'COUNT', 1)[1]

local _, now_ms = server_time()
local expected = redis.call('ZRANGE', KEYS[6], 0, -1)
local parked = redis.call('ZRANGE', KEYS[5], 0, -1, 'WITHSCORES')
for i = 1, #parked, 2 do
  local due, seq = tonumber(parked[i + 1]), tonumber(string.match(parked[i], '%-(%d+)$'))
  if due ~= tonumber(back_score(parked[i])) or due > now_ms or seq >= 4095 then
    expected[#expected + 1] = parked[i]
  end
end

local elsewhere, consumers = {}, redis.pcall('XINFO', 'CONSUMERS', KEYS[4], group)
for _, fields in ipairs(consumers.err and {} or consumers) do
  local info = {}
  for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
  if info['name'] ~= '__free__' and info['pending'] > 0 then
    for _, held in ipairs(redis.call('XPENDING', KEYS[4], group, '-', '+', 10000, info['name'])) do
      elsewhere[#elsewhere + 1] = held[1]
      elsewhere[#elsewhere + 1] = held[2]
    end
  end
end
return {'', epoch, last, woken and woken[1] or '0-0', expected, elsewhere}
