#!lua
-- A run enqueues a message and ends, in one step: whoever repeats the run finds that it has ended.
-- Only for the leader.
-- KEYS  1-4 as run_end.lua  5-12 as enqueue.lua
-- ARGV  1 name  2 number of the run  3 what there is to say about it  4 how many entries the history
--       keeps  then as enqueue.lua, with one message
-- Returns what enqueue.lua does; -1 if the run has ended before.
-- Effects, in order: 1 those of enqueue.lua, but for its sequence number, which nobody needs here
-- 2 unless there was no room, those of run_end.lua with the outcome `done`.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@function enqueue
--@function run_end
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return -1 end
local keys, args = {}, {}
for i = 5, #KEYS do keys[#keys + 1] = KEYS[i] end
for i = 5, #ARGV do args[#args + 1] = ARGV[i] end
redis.call('UNLINK', keys[7])
local added = enqueue(keys, args)
redis.call('UNLINK', keys[7])
if added == 1 then
  run_end({KEYS[1], KEYS[2], KEYS[3], KEYS[4]},
    {ARGV[1], ARGV[2], 'done', ARGV[3], ARGV[4]})
end
return added
