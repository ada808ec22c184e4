#!lua
-- Defines and removes schedules: all that is asked for, or nothing.
-- KEYS  1 schedules HASH  2 changes STREAM
--       then, for each change: state HASH, runs HASH, history STREAM
-- ARGV  1 who asks for it  2 how many schedules there may be
--       then, for each change: 'put' or 'drop', name, expected, definition, timing
--       expected: the definition that it must have now; '' for none, '*' for whatever it has
-- Returns, for each change: 'created', 'changed', 'same', 'removed' or 'gone'; or, nothing being
-- done, {'CONFLICT', name} if a definition is not the expected one, {'FULL', ''} if there would be too
-- many schedules.
-- The fire times of a new schedule, and of one whose timing is changed, count from now.
-- A run that has begun goes on, and is forgotten in the end if its schedule was removed, or after a
-- day; and at once when the schedule is defined anew: then it does not publish or send any more.
-- Effects of each change, in order: 1 the definition  2 the state (and history)  3 the leader is told.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written. Pausing is.
--@include _time.lua
local count = redis.call('HLEN', KEYS[1])
local before = {}
for i = 3, #ARGV, 5 do
  local name, expected = ARGV[i + 1], ARGV[i + 2]
  local present = redis.call('HGET', KEYS[1], name)
  if expected ~= '*' and (present or '') ~= expected then return {'CONFLICT', name} end
  before[i] = present
  if ARGV[i] == 'put' and not present then count = count + 1 end
  if ARGV[i] == 'drop' and present then count = count - 1 end
end
if count > tonumber(ARGV[2]) and count > redis.call('HLEN', KEYS[1]) then return {'FULL', ''} end

local _, now_ms = server_time()
local outcome = {}
for i = 3, #ARGV, 5 do
  local name, definition, timing = ARGV[i + 1], ARGV[i + 3], ARGV[i + 4]
  local at = 3 + (i - 3) / 5 * 3
  local state, runs, history, done = KEYS[at], KEYS[at + 1], KEYS[at + 2], nil
  if ARGV[i] == 'drop' then
    done = before[i] and 'removed' or 'gone'
    redis.call('HDEL', KEYS[1], name)
    redis.call('UNLINK', state, history)
    redis.call('EXPIRE', runs, 86400)
  elseif before[i] == definition then
    done = 'same'
  else
    done = before[i] and 'changed' or 'created'
    redis.call('HSET', KEYS[1], name, definition)
    if not before[i] then redis.call('UNLINK', runs) end
    if redis.call('HGET', state, 'timing') ~= timing then
      redis.call('HSET', state, 'timing', timing, 'cursor', string.format('%d', now_ms))
    end
  end
  if done ~= 'same' and done ~= 'gone' then
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 1000, '*', 'a', done, 's', name, 'by', ARGV[1])
  end
  outcome[#outcome + 1] = done
end
return outcome
