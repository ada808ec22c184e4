#!lua flags=allow-oom
-- A run begins, or fire times were missed; both move the cursor. Only for the leader.
-- KEYS  1 schedules HASH  2 state HASH  3 runs HASH  4 history STREAM
-- ARGV  1 name  2 the definition that was planned with  3 the cursor that was planned with
--       4 the cursor from now on  5 fire time, ms; '' to begin nothing
--       6 what was asked for, where the run is one that was; else ''
--       7-9 fire times missed: how many, first, last  10 how many runs there may be at a time
--       11 who leads  12 how many entries the history keeps
-- Returns {'begun', number of the run, the server's clock ms}; {'noted'} if nothing was to begin;
-- {'busy'} if there are as many runs as may be; {'stale'} if it is not any more as it was planned with.
-- The last two did nothing.
-- Effects, in order: 1 what was missed, in the history  2 the cursor, or that a run was asked for
-- 3 the run.
--@include _time.lua
--@include _history.lua
local name, fired, asked, missed = ARGV[1], ARGV[5], ARGV[6], tonumber(ARGV[7])
local state, runs = KEYS[2], KEYS[3]
if redis.call('HGET', KEYS[1], name) ~= ARGV[2] then return {'stale'} end
local cursor, paused, wish = unpack(redis.call('HMGET', state, 'cursor', 'paused', 'asked'))
if asked ~= '' then
  if wish ~= asked then return {'stale'} end
elseif paused or (cursor or '0') ~= ARGV[3] then
  return {'stale'}
end
if fired ~= '' and redis.call('HLEN', runs) >= tonumber(ARGV[10]) then return {'busy'} end

local _, now_ms = server_time()
if missed > 0 then
  history_add(KEYS[4], ARGV[12], {'outcome', 'missed', 'count', missed, 'fired', ARGV[8],
    'last', ARGV[9], 'ended', string.format('%d', now_ms), 'by', ARGV[11]})
  redis.call('HINCRBY', state, 'missed', missed)
end
if asked ~= '' then
  redis.call('HDEL', state, 'asked')
else
  redis.call('HSET', state, 'cursor', ARGV[4])
end
if fired == '' then return {'noted'} end
local number = redis.call('HINCRBY', state, 'number', 1)
redis.call('HSET', runs, number, string.format('%s %d 1 %d %s', fired, now_ms,
  asked ~= '' and 1 or 0, ARGV[11]))
return {'begun', number, now_ms}
