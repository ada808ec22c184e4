#!lua flags=allow-oom
-- Pauses a schedule, lets it go on, or asks for a run now.
-- KEYS  1 schedules HASH  2 state HASH  3 changes STREAM
-- ARGV  1 name  2 'pause', 'resume' or 'run'  3 who asks for it
-- Returns 'done'; 'same' if it was so already (paused, not paused, a run asked for and not begun); or
-- 'unknown' if there is no such schedule.
-- What would have been run while it was paused is not missed: fire times count from when it goes on.
-- Effects, in order: 1 the state  2 the leader is told.
--@include _time.lua
local name, action, who = ARGV[1], ARGV[2], ARGV[3]
if redis.call('HEXISTS', KEYS[1], name) == 0 then return 'unknown' end
local field = action == 'run' and 'asked' or 'paused'
local there = redis.call('HEXISTS', KEYS[2], field) == 1
if there == (action ~= 'resume') then return 'same' end
local _, now_ms = server_time()
if action == 'resume' then
  redis.call('HDEL', KEYS[2], 'paused')
  -- Never back, whatever the clock does: what was dealt with is not dealt with again.
  local cursor = math.max(now_ms, tonumber(redis.call('HGET', KEYS[2], 'cursor') or 0))
  redis.call('HSET', KEYS[2], 'cursor', string.format('%d', cursor))
else
  redis.call('HSET', KEYS[2], field, string.format('%d %s', now_ms, who))
end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 1000, '*', 'a', action, 's', name, 'by', who)
return 'done'
