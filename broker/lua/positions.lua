#!lua flags=no-writes
-- Where all subscriptions of some streams stand, and their handlers' states, at one moment.
-- KEYS  a stream each 2: entries STREAM, state HASH
-- ARGV  1 pending entries that are named of one group, at most  2 and in all
-- Returns {now us, a stream each}: false if there is no such stream, or
-- {last id, number of entries ever added, length, first id or '', groups, states}:
--   groups  {name, last delivered id, number of entries up to there or -1, number of pending ones,
--           ids of the oldest of these (all of them, or as many as are named), id of the first unread
--           entry or ''} each
--   states  field, value, ...
-- Effects: none.
--@include _time.lua
local now_us = server_time()
local of_one, in_all = tonumber(ARGV[1]), tonumber(ARGV[2])
local reply = {now_us}

local function named(entries, group, pending)
  local ids, count = {}, math.min(of_one, in_all, pending)
  -- One at least: it is the safe position.
  if pending > 0 and count < 1 then count = 1 end
  if count == 0 then return ids end
  for i, held in ipairs(redis.call('XPENDING', entries, group, '-', '+', count)) do
    ids[i] = held[1]
  end
  in_all = in_all - #ids
  return ids
end

-- Where the fields of a reply of XINFO have their values: the same in each.
local function places(fields)
  local at = {}
  for i = 1, #fields, 2 do at[fields[i]] = i + 1 end
  return at
end
local at_stream, at_group

for k = 1, #KEYS, 2 do
  local entries = KEYS[k]
  local stream = redis.pcall('XINFO', 'STREAM', entries)
  if not stream.err then
    at_stream = at_stream or places(stream)
    local end_id = stream[at_stream['last-generated-id']]
    local groups = {}
    for i, info in ipairs(redis.call('XINFO', 'GROUPS', entries)) do
      at_group = at_group or places(info)
      local name, pending = info[at_group['name']], info[at_group['pending']]
      local last, unread = info[at_group['last-delivered-id']], ''
      if last ~= end_id then
        local first = redis.call('XRANGE', entries, '(' .. last, '+', 'COUNT', 1)[1]
        unread = first and first[1] or ''
      end
      groups[i] = {name, last, info[at_group['entries-read']] or -1, pending,
        named(entries, name, pending), unread}
    end
    local first = stream[at_stream['first-entry']]
    reply[#reply + 1] = {end_id, stream[at_stream['entries-added']], stream[at_stream['length']],
      first and first[1] or '', groups, redis.call('HGETALL', KEYS[k + 1])}
  else
    reply[#reply + 1] = false
  end
end
return reply
