#!lua
-- Appends events to one stream of a log, each id once, as far as there is room.
-- KEYS  1 entries STREAM  2 ids HASH  3 ids.old HASH  4 filled STRING  5 shed STRING
-- ARGV  1 window, ms  2 limit of a subscription's backlog; 0 = none  3 drop (1) or refuse (0) what
--       finds no room       then pairs: event id (16 bytes), event (JSON)
-- Returns, for each event, its entry id; or "=ID", it was there already; or "-", it was dropped; or
-- "!BACKLOG GROUP", it was refused: there is no room for it, since that group has so much to handle.
-- New events take the room in their order; known ones need none.
-- `filled` is an upper bound of the backlog of the slowest group (pending + lag), plus one. Each call
-- adds what it appends, and looks at the groups only where that key is missing or says that the
-- limit is exceeded. It lives for a second, because neither emits are counted there, which are never
-- refused, nor what a group that is new finds before it. A stream without groups has no limit. The
-- lag of a group that the server does not know (see ensure.lua) counts as 0.
-- Effects, in order: 1 rotate the id window  2 count in `filled`  3 count what is dropped in `shed`
-- (again, if the reply was lost)  4 XADD each new event  5 remember the new ids.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _time.lua
--@include _window.lua
local window_ms, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local appended_us = server_time()
window_rotate(KEYS[2], KEYS[3], window_ms)

local ids = {}
for i = 4, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local known = window_lookup(KEYS[2], KEYS[3], ids)

-- Whether entries behind `id` exist: a lag may be too high after somebody else has trimmed.
local function has_unread(id)
  return #redis.call('XRANGE', KEYS[1], '(' .. id, '+', 'COUNT', 1) > 0
end

-- What the slowest group has to handle, and its name; or nil if there is no group.
local function slowest()
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
  if groups.err then return nil end -- no such stream
  local most, name
  for _, fields in ipairs(groups) do
    local info = {}
    for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
    local lag = info['lag'] or 0
    if lag >= limit and not has_unread(info['last-delivered-id']) then lag = 0 end
    if not most or info['pending'] + lag > most then
      most, name = info['pending'] + lag, info['name']
    end
  end
  return most, name
end

local room = #ids
local refusal = '-'
if limit > 0 then
  local fresh, counted = 0, {}
  for i = 1, #ids do
    if not known[i] and not counted[ids[i]] then
      counted[ids[i]] = true
      fresh = fresh + 1
    end
  end
  if fresh > 0 then
    local filled = redis.call('INCRBY', KEYS[4], fresh)
    if filled == fresh or filled > limit + 1 then
      local backlog, group = slowest()
      if backlog then
        room = math.max(0, math.min(fresh, limit - backlog))
        if ARGV[3] == '0' then refusal = '!' .. backlog + room .. ' ' .. group end
        redis.call('SET', KEYS[4], backlog + room + 1, 'PX', 1000)
      else
        redis.call('UNLINK', KEYS[4])
      end
      if room < fresh and ARGV[3] == '1' then redis.call('INCRBY', KEYS[5], fresh - room) end
    end
  end
end

local reply, fresh, seen = {}, {}, {}
for i = 1, #ids do
  local id = ids[i]
  local before = known[i] or seen[id]
  if before == refusal then
    reply[i] = refusal
  elseif before then
    reply[i] = '=' .. before
  elseif room > 0 then
    local entry = redis.call('XADD', KEYS[1], '*', 'd', ARGV[2 * i + 3], 'a', appended_us)
    room = room - 1
    seen[id] = entry
    reply[i] = entry
    fresh[#fresh + 1] = id
    fresh[#fresh + 1] = entry
  else
    seen[id] = refusal
    reply[i] = refusal
  end
end
if #fresh > 0 then window_store(KEYS[2], fresh, window_ms) end
return reply
