#!lua flags=allow-oom
-- A run ends. Only for the leader.
-- KEYS  1 schedules HASH  2 state HASH  3 runs HASH  4 history STREAM
-- ARGV  1 name  2 number of the run  3 outcome  4 what there is to say about it
--       5 how many entries the history keeps
-- Returns 1; 0 if it has ended before.
-- Effects, in order: 1 the run is none any more  2 the history  3 totals and the last outcome
-- (of a schedule that was removed meanwhile, neither).
--@include _time.lua
--@include _history.lua
local state, outcome = KEYS[2], ARGV[3]
local run = redis.call('HGET', KEYS[3], ARGV[2])
if not run then return 0 end
redis.call('HDEL', KEYS[3], ARGV[2])
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 1 end
local fired, began, attempts, asked, by = string.match(run, '^(%S+) (%S+) (%d+) (%d) (.*)$')
local _, now_ms = server_time()
local ended = string.format('%d', now_ms)
history_add(KEYS[4], ARGV[5], {'outcome', outcome, 'number', ARGV[2], 'fired', fired, 'began', began,
  'ended', ended, 'attempts', attempts, 'asked', asked, 'by', by, 'detail', ARGV[4]})
redis.call('HINCRBY', state, outcome, 1)
redis.call('HSET', state, 'last.number', ARGV[2], 'last.outcome', outcome, 'last.fired', fired,
  'last.began', began, 'last.ended', ended, 'last.detail', ARGV[4])
return 1
