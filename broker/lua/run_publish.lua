#!lua
-- A run publishes an event and ends, in one step: whoever repeats the run finds that it has ended.
-- Only for the leader.
-- KEYS  1-4 as run_end.lua  5-9 as publish.lua
-- ARGV  1 name  2 number of the run  3 what there is to say about it  4 how many entries the history
--       keeps  then as publish.lua, with one event
-- Returns what publish.lua does for the event; '' if the run has ended before.
-- Effects, in order: 1 those of publish.lua  2 unless the event was refused, those of run_end.lua
-- with the outcome `done`.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@function publish
--@function run_end
if redis.call('HEXISTS', KEYS[3], ARGV[2]) == 0 then return '' end
local keys, args = {}, {}
for i = 5, #KEYS do keys[#keys + 1] = KEYS[i] end
for i = 5, #ARGV do args[#args + 1] = ARGV[i] end
local appended = publish(keys, args)[1]
if string.sub(appended, 1, 1) ~= '!' then
  run_end({KEYS[1], KEYS[2], KEYS[3], KEYS[4]},
    {ARGV[1], ARGV[2], 'done', ARGV[3] .. ' ' .. appended, ARGV[4]})
end
return appended
