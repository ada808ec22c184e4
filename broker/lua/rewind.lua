#!lua flags=allow-oom
-- Puts one subscription back to where it stood on one stream, or begins a new one there.
-- KEYS  1 entries STREAM  2 parked ZSET  3 options HASH  4 suspects ZSET  5 suspect STRING
--       6 passed STRING  7 owner STRING  8 state HASH  9 audit STREAM  10 wake STREAM
--       then fence STRING of each consumer that is dead and not reclaimed
-- ARGV  1 group  2 who asks for it  3 checkpoint  4 '1' if the group is new, '' if it is rewound
--       5 last delivered id  6 number of entries up to there, or -1
--       then number p of pending entries, their ids; number s of states, field and value each;
--       number f of dead consumers, their names
-- Returns 'ok'; or, with nothing changed, 'gone' (there is no such stream, or it ends before that
-- id), 'exists' (the new group does), 'no_group' (the other one does not), 'held NAME' (a consumer
-- that is not dead has claimed entries), 'owned NAME' (it owns the partition).
-- Harmless to repeat for a group that is rewound; one that is new says 'exists' then.
-- Effects, in order: 1 dead consumers are fenced  2 the group is made anew, with nothing pending, and
-- no consumers  3 all that was noted of its entries goes, and its states  4 the entries given are
-- pending, never delivered, and due at once; those that the log does not have are left out  5 the
-- states are as given  6 a reader is woken  7 audit record.
--@include _time.lua
--@include _order.lua
--@include _ids.lua
--@include _operator.lua
local entries, parked, options, state, audit = KEYS[1], KEYS[2], KEYS[3], KEYS[8], KEYS[9]
local group, by, is_new, last, read = ARGV[1], ARGV[2], ARGV[4] == '1', ARGV[5], ARGV[6]
local a = 7

local function take_many(each)
  local values, count = {}, tonumber(ARGV[a]) * each
  for i = 1, count do values[i] = ARGV[a + i] end
  a = a + count + 1
  return values
end
local pending, states, gone = take_many(1), take_many(2), take_many(1)

local refused = operator_misplaced({entries, 'stream', parked, 'zset', options, 'hash',
  KEYS[4], 'zset', state, 'hash', audit, 'stream', KEYS[10], 'stream'})
if refused then return refused end
local stream = info_of(redis.pcall('XINFO', 'STREAM', entries))
if not stream or id_less(stream['last-generated-id'], last) then return 'gone' end
local is_dead = {['__free__'] = true}
for _, name in ipairs(gone) do is_dead[name] = true end
local consumers = redis.pcall('XINFO', 'CONSUMERS', entries, group)
if is_new and not consumers.err then return 'exists' end
if not is_new and consumers.err then return 'no_group' end
for _, fields in ipairs(is_new and {} or consumers) do
  local info = info_of(fields)
  if info['pending'] > 0 and not is_dead[info['name']] then return 'held ' .. info['name'] end
end
local owner = redis.call('GET', KEYS[7])
if owner and not is_dead[owner] then return 'owned ' .. owner end

local _, now_ms = server_time()
for i = 11, #KEYS do redis.call('SET', KEYS[i], 1, 'EX', 86400) end
redis.call('XGROUP', 'DESTROY', entries, group)
redis.call('XGROUP', 'CREATE', entries, group, last, 'ENTRIESREAD', read)
redis.call('UNLINK', parked, options, KEYS[4], KEYS[5], KEYS[6], KEYS[7])
local prefix = group .. ' '
for _, field in ipairs(redis.call('HKEYS', state)) do
  if string.sub(field, 1, #prefix) == prefix then redis.call('HDEL', state, field) end
end
for _, id in ipairs(pending) do
  local claimed = redis.call('XCLAIM', entries, group, '__free__', 0, id, 'FORCE',
    'RETRYCOUNT', 0, 'JUSTID')
  if #claimed > 0 then redis.call('ZADD', parked, back_score(id), id) end
end
for i = 1, #states, 2 do redis.call('HSET', state, states[i], states[i + 1]) end
redis.call('XADD', KEYS[10], 'MAXLEN', 16, '*', 'w', 1)
redis.call('XADD', audit, 'MAXLEN', '~', 100000, '*', 'r', cjson.encode({writer = by, batch = 0,
  at = now_ms, n = 0, latency = {}, action = 'restore', checkpoint = ARGV[3], position = last,
  pending = #pending}))
return 'ok'
