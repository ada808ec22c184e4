#!lua flags=allow-oom
-- Reserves business keys for deliveries whose handlers are about to run. What stands at a key:
--   d               it is done; in a log "d ENTRY", by that entry
--   r ENTRY RUN     reserved by that run of that entry (in a work queue ENTRY is ID.LANE); behind RUN
--                   stands ? or ! if the outcome was uncertain or requeued, for a repeated call
--   u NAME ...      nobody knows whether it was done; the dead letters that say so (entry ids, or in
--                   a work queue message ids), the last twenty
-- KEYS  1 keys HASH  2 keys.old HASH  3 fence STRING
--       then 2 a stream whose entries may hold these keys: entries STREAM, parked ZSET; first the one
--       that the deliveries come from
-- ARGV  1 group  2 consumer  3 window of keys, ms (0: for ever)
--       then a delivery each 5: key, entry id, run, name, takes (1: it is reserved also where nobody
--       knows, 0: it is left as it is then)
-- Returns {'FENCED'}, or for each delivery {outcome, delay ms, what stood there}:
--   new        reserved
--   done       nothing to do
--   ours       reserved by an earlier run of this entry, which did not end: nobody knows
--   uncertain  nobody knows, from another entry: a dead letter, or one that is not pending any more
--   requeued   nobody knew, and this is one of the dead letters that say so: somebody has decided that
--              it runs again; reserved
--   busy       reserved by another entry that is still pending: look again after the delay, which is
--              until that one is due, or as long as it has been running
--   gone       the entry is not pending for this consumer any more
-- Harmless to repeat with the same run: the outcome is the same.
-- Effects, in order: 1 the window is rotated  2 each key is reserved.
--@include _time.lua
--@include _window.lua
local keys, keys_old = KEYS[1], KEYS[2]
local group, consumer, window_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[3]) == 1 then return {'FENCED'} end
local _, now_ms = server_time()
-- Bounds of the delay of what is busy.
local SOON_MS, LATE_MS = 50, 15000

-- Where the stream that KEYS[at] names stands in a holder's name: '' or '.LANE'.
local function suffix(at) return string.match(KEYS[at], ':entries(.*)$') end

-- How long to wait for a holder, ms; nil if it is not pending.
local function busy_for(holder)
  local id, lane = string.match(holder, '^(%d+%-%d+)(.*)$')
  for at = 4, #KEYS, 2 do
    if id and suffix(at) == lane then
      local held = redis.pcall('XPENDING', KEYS[at], group, id, id, 1)
      if held.err or #held == 0 then return nil end
      local due = redis.call('ZSCORE', KEYS[at + 1], id)
      local wait_ms = due and tonumber(due) - now_ms or held[1][3]
      return math.floor(math.max(SOON_MS, math.min(wait_ms, LATE_MS)))
    end
  end
end

local function reserve(key, entry, run, name, takes)
  local mine = redis.pcall('XPENDING', KEYS[4], group, entry, entry, 1, consumer)
  if mine.err or #mine == 0 then return {'gone', 0, ''} end
  local stood = window_lookup(keys, keys_old, {key})[1]
  local me = 'r ' .. entry .. suffix(4) .. ' '
  if not stood then
    window_store(keys, {key, me .. run}, window_ms)
    return {'new', 0, ''}
  end
  if string.sub(stood, 1, 1) == 'd' then return {'done', 0, stood} end
  if stood == me .. run then return {'new', 0, stood} end
  -- The call is repeated: its reply was lost.
  if stood == me .. run .. '?' then return {'uncertain', 0, stood} end
  if stood == me .. run .. '!' then return {'requeued', 0, stood} end
  if string.sub(stood, 1, #me) == me then return {'ours', 0, stood} end
  if string.sub(stood, 1, 1) == 'r' then
    local wait_ms = busy_for(string.match(stood, '^r (%S+)'))
    if wait_ms then return {'busy', wait_ms, stood} end
  elseif string.find(stood .. ' ', ' ' .. name .. ' ', 1, true) then
    window_store(keys, {key, me .. run .. '!'}, window_ms)
    return {'requeued', 0, stood}
  end
  if takes then window_store(keys, {key, me .. run .. '?'}, window_ms) end
  return {'uncertain', 0, stood}
end

window_rotate(keys, keys_old, window_ms)
local reply = {}
for i = 4, #ARGV, 5 do
  reply[#reply + 1] = reserve(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4] == '1')
end
return reply
