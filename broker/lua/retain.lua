#!lua flags=allow-oom
-- Trims the beginning of one stream of a log, as far as nobody needs it, a page a call.
-- KEYS  1 entries STREAM
-- ARGV  1 entries that are to be kept, at least  2 lowest id that checkpoints or replays need, or ''
--       3 page: entries that are looked at  4 '1': trim, '': only tell
-- Returns {trimmed, length after that, surplus that is left, what holds it back, lowest id that is
-- needed}. Held back by: '' (nothing: another call goes on, or less than a block of the server's is
-- left), 'floor' (what ARGV 2 says), or a group's name.
-- What a group needs begins with its oldest pending entry, or else behind the last one that it was
-- given. All groups count, whoever made them. The server drops whole blocks only (`~`), so a little
-- more stays than was asked for.
-- Effects: XTRIM MINID. Entries of logs are never deleted by XDEL, which would not go with it.
--@include _ids.lua
local entries, aim, floor = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local stream = info_of(redis.pcall('XINFO', 'STREAM', entries))
if not stream then return {0, 0, 0, '', ''} end
local surplus = stream['length'] - aim
if surplus <= 0 then return {0, stream['length'], 0, '', ''} end

local need, by = nil, ''
local function needs(id, who)
  if not need or id_less(id, need) then need, by = id, who end
end
if floor ~= '' then needs(floor, 'floor') end
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', entries)) do
  local info = info_of(fields)
  local id
  if info['pending'] > 0 then
    id = redis.call('XPENDING', entries, info['name'], '-', '+', 1)[1][1]
  else
    local ms, seq = id_parts(info['last-delivered-id'])
    -- A sequence number that is too long for a double does not come from a clock.
    id = #seq < 15 and string.format('%s-%.0f', ms, tonumber(seq) + 1) or info['last-delivered-id']
  end
  needs(id, info['name'])
end

local count = math.min(surplus, tonumber(ARGV[3]))
local page = redis.call('XRANGE', entries, '-', '+', 'COUNT', count + 1)
local first_kept = page[#page][1]
local held = need and id_less(need, first_kept)
local lowest = held and need or first_kept
if ARGV[4] ~= '1' then return {0, stream['length'], surplus, held and by or '', need or ''} end
local trimmed = redis.call('XTRIM', entries, 'MINID', '~', lowest)
return {trimmed, stream['length'] - trimmed, surplus - trimmed, held and by or '', need or ''}
