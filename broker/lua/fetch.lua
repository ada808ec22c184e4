#!lua flags=allow-oom
-- Takes entries for one consumer: what was handed back or is due first, then new ones, in the order
-- of the sources given (lanes: high to low), never more than there is room for.
-- KEYS  a source each 8: entries STREAM, parked ZSET, options HASH, fence STRING, suspects ZSET,
--         suspect STRING, passed STRING, owner STRING
--       then a wake STREAM; then, for a work queue: delayed ZSET, delayed.messages HASH, cancelled
--       ZSET, and the lanes' streams are the sources 1..3 (the first character of a delayed member is
--       its source's number, what stands behind its first colon the message id)
-- ARGV  1 group  2 consumer  3 room  4 number of sources  5 the process holds nothing else (1): take
--       one suspect, and nothing but suspects  6 a due time for which a reader was woken already
--       7 the sources are lanes (1): one that was passed over for AGE_MS gets a quarter of the room
--       before the others, until it is empty  8 the sources have owners (1): nothing is read of one
--       that this consumer does not own, nor anything new of one of which something handed back or
--       due is left  9 nothing new (1): only what was handed back or is due
-- Returns {now ms, next due ms or -1, error or '', suspects wait (1), number of cancelled messages
-- known, ids of delayed messages dropped because they were cancelled, blocks...}; next due 0 = more is
-- due already.
--   block = {source, entries, options, aged (1)}: options has one text or false an entry that was
--   parked, and is empty for new entries.
-- A fenced consumer gets the error FENCED, and one that does not own the source number I the error
-- LOST I; then nothing was read. An error met after something was claimed is returned
-- beside what was claimed, so that no claim is lost.
-- Effects, in order: 1 promote due delayed messages, drop cancelled ones  2 XCLAIM parked entries that
-- are due, forget their parking  3 XREADGROUP new ones  4 note which lanes were passed over; and with
-- nothing left that may be cancelled, old cancelled ids are forgotten. Or, alone: XCLAIM one suspect of a stream of which none is
-- running anywhere: what may have killed its worker runs without its neighbours.
--@include _time.lua
local group, consumer = ARGV[1], ARGV[2]
-- Bounded: the arguments of one call are.
local room, n = math.min(tonumber(ARGV[3]), 1000), tonumber(ARGV[4])
local now_us, now_ms = server_time()
local alone = ARGV[5] == '1'
local lanes, owned, nothing_new = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1'
local AGE_MS = 3000
local reply = {now_ms, -1, '', 0, 0, {}}
local next_due

for i = 1, n do
  local fence = KEYS[8 * i - 4]
  if (i == 1 or fence ~= KEYS[8 * i - 12]) and redis.call('EXISTS', fence) == 1 then
    reply[3] = 'FENCED'
    return reply
  end
  if owned and redis.call('GET', KEYS[8 * i]) ~= consumer then
    reply[3] = 'LOST ' .. i
    return reply
  end
end

local delayed, messages, cancelled = KEYS[8 * n + 2], KEYS[8 * n + 3], KEYS[8 * n + 4]
if cancelled then reply[5] = redis.call('ZCARD', cancelled) end
if delayed and not alone then
  local due = redis.call('ZRANGE', delayed, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, 200)
  for _, member in ipairs(due) do
    local message = redis.call('HGET', messages, member)
    local id = reply[5] > 0 and string.match(member, ':(.*)$')
    if id and redis.call('ZSCORE', cancelled, id) then
      redis.call('HDEL', messages, member)
      table.insert(reply[6], id)
    elseif message then
      local source = tonumber(string.sub(member, 1, 1))
      redis.call('XADD', KEYS[8 * source - 7], '*', 'm', message, 'a', now_us)
      redis.call('HDEL', messages, member)
    end
    redis.call('ZREM', delayed, member)
  end
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')
  if first[2] then next_due = tonumber(first[2]) end
end

if reply[5] > 0 and not alone then
  -- With nothing left that may be cancelled, ids are forgotten in time.
  local held = redis.call('ZCARD', delayed)
  for i = 1, n do held = held + redis.call('XLEN', KEYS[8 * i - 7]) end
  if held == 0 then
    local old = redis.call('ZRANGE', cancelled, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, 1000)
    if #old > 0 then redis.call('ZREM', cancelled, unpack(old)) end
  end
end

local behind = {} -- sources whose new entries must wait for others
for i = 1, n do
  local entries, parked, options = KEYS[8 * i - 7], KEYS[8 * i - 6], KEYS[8 * i - 5]
  if room > 0 and not alone then
    local due = redis.call('ZRANGE', parked, '-inf', now_ms, 'BYSCORE', 'LIMIT', 0, room)
    if #due > 0 then
      local args = {entries, group, consumer, 0}
      for _, id in ipairs(due) do args[#args + 1] = id end
      local claimed = redis.pcall('XCLAIM', unpack(args))
      if claimed.err then
        reply[3] = claimed.err
        break
      end
      redis.call('ZREM', parked, unpack(due))
      local texts = {}
      for j, entry in ipairs(claimed) do texts[j] = redis.call('HGET', options, entry[1]) end
      reply[#reply + 1] = {i, claimed, texts, 0}
      room = room - #claimed
    end
  end
  local first = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
  if first[2] then
    local due = tonumber(first[2])
    behind[i] = owned and due <= now_ms
    if not next_due or due < next_due then next_due = due end
  end
end

for i = 1, n do
  local entries, suspects, running = KEYS[8 * i - 7], KEYS[8 * i - 3], KEYS[8 * i - 2]
  local first = redis.call('ZRANGE', suspects, 0, 0)[1]
  if first and reply[3] == '' then
    local other = redis.call('GET', running)
    if other then
      -- Without the group (err) nothing is held.
      local held = redis.pcall('XPENDING', entries, group, other, other, 1)[1]
      if not held or held[2] == '__free__' then other = nil end
    end
    if not other then reply[4] = 1 end
    if not other and alone and room > 0 then
      local claimed = redis.pcall('XCLAIM', entries, group, consumer, 0, first)
      redis.call('ZREM', suspects, first)
      if not claimed.err and #claimed > 0 then
        redis.call('SET', running, first)
        local option = redis.call('HGET', KEYS[8 * i - 5], first)
        reply[#reply + 1] = {i, claimed, {option}, 0}
        room = room - 1
      end
    end
    -- Whoever settles the running one wakes a reader; this is for the case that it dies.
    if redis.call('EXISTS', suspects) == 1 then
      local look = now_ms + 1000
      if not next_due or look < next_due then next_due = look end
    end
  end
end

-- Takes up to `count` new entries of source i; returns how many.
local function read_new(i, count, aged)
  local read = redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count,
    'STREAMS', KEYS[8 * i - 7], '>')
  if not read then return 0 end
  if read.err then
    reply[3] = read.err
    return 0
  end
  local entries = read[1][2]
  reply[#reply + 1] = {i, entries, {}, aged}
  room = room - #entries
  return #entries
end

if not alone and not nothing_new then
  if lanes and room > 0 then
    local whole = room
    for i = 2, n do
      local since = redis.call('GET', KEYS[8 * i - 1])
      if since and now_ms - tonumber(since) >= AGE_MS and reply[3] == '' then
        local share = math.floor(whole / 4)
        -- Room for one or two: a turn in four.
        if share == 0 and tonumber(string.sub(now_us, -4)) % 4 == 0 then share = 1 end
        share = math.min(share, room)
        -- An empty lane is not passed over: it begins to age anew.
        if share > 0 and read_new(i, share, 1) < share then redis.call('UNLINK', KEYS[8 * i - 1]) end
      end
    end
  end
  for i = 1, n do
    if reply[3] ~= '' then break end
    if room > 0 and not behind[i] then
      read_new(i, room, 0)
      if lanes and i > 1 and room > 0 then redis.call('UNLINK', KEYS[8 * i - 1]) end
    elseif lanes and i > 1 then
      redis.call('SET', KEYS[8 * i - 1], string.format('%.0f', now_ms), 'NX', 'EX', 600)
    end
  end
end
if not owned and room <= 0 and next_due and next_due - now_ms < 8000
  and (next_due <= now_ms or next_due ~= tonumber(ARGV[6])) then
  redis.call('XADD', KEYS[8 * n + 1], 'MAXLEN', 16, '*', 'w', 1)
end
if next_due then reply[2] = next_due <= now_ms and 0 or next_due end
return reply
