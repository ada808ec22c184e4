#!lua
-- Makes entries of a log pending again for one subscription alone, in order, as part of a replay.
-- KEYS  1 entries STREAM  2 parked ZSET  3 options HASH  4 done HASH  5 done.old HASH
--       6 wake STREAM  7 replay STRING
-- ARGV  1 group  2 epoch of the replay: it grows when the replay is sent elsewhere
--       3 state of the deliveries, JSON  then, for each entry: its id, event id (16 bytes)
-- Returns, for each entry: 'given'; or 'known' (this replay gave it before, in this epoch); or, and
-- nothing is done: 'trimmed' (the log does not have it any more), 'pending' (it is running or waits
-- to run), 'unread' (the subscription has not come to it yet, and will).
-- The replay's key tells how far it has come on this stream, so that a call whose reply was lost,
-- or that is made again after a crash, gives nothing twice.
-- Effects of each entry, in order: 1 it is pending, held by nobody, never delivered  2 it is parked,
-- due at once  3 its state is stored  4 its done mark goes. Then 5 the replay's key  6 a reader is
-- woken. An error if the subscription does not exist on this stream.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _order.lua
local entries, group, epoch = KEYS[1], ARGV[1], ARGV[2]

local function numbers(id)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(sequence)
end

local function is_before(one, other) -- or the same
  local ms, sequence = numbers(one)
  local other_ms, other_sequence = numbers(other)
  return ms < other_ms or (ms == other_ms and sequence <= other_sequence)
end

local delivered
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', entries)) do
  local info = {}
  for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
  if info['name'] == group then delivered = info['last-delivered-id'] end
end
if not delivered then
  return redis.error_reply('NOGROUP ' .. entries .. ' has no subscription ' .. group)
end

local given -- the last one of this epoch
local mark = redis.call('GET', KEYS[7])
if mark then
  local of, entry = string.match(mark, '^(%d+) (.*)$')
  if of == epoch then given = entry end
end

local function give(entry, event_id)
  if given and is_before(entry, given) then return 'known' end
  if #redis.call('XRANGE', entries, entry, entry) == 0 then return 'trimmed' end
  if not is_before(entry, delivered) then return 'unread' end
  if #redis.call('XPENDING', entries, group, entry, entry, 1) > 0 then return 'pending' end
  redis.call('XCLAIM', entries, group, '__free__', 0, entry, 'FORCE', 'RETRYCOUNT', 0, 'JUSTID')
  redis.call('ZADD', KEYS[2], back_score(entry), entry)
  redis.call('HSET', KEYS[3], entry, ARGV[3])
  redis.call('HDEL', KEYS[4], event_id)
  redis.call('HDEL', KEYS[5], event_id)
  return 'given'
end

local outcome = {}
local any = false
for i = 4, #ARGV, 2 do
  outcome[#outcome + 1] = give(ARGV[i], ARGV[i + 1])
  any = any or outcome[#outcome] == 'given'
end
redis.call('SET', KEYS[7], epoch .. ' ' .. ARGV[#ARGV - 1])
if any then redis.call('XADD', KEYS[6], 'MAXLEN', 16, '*', 'w', 1) end
return outcome
