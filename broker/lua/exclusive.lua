#!lua flags=allow-oom
-- Lets one process at a time take checkpoints, restore, or trim.
-- KEYS  1 busy STRING
-- ARGV  1 token  2 who, and for what  3 for how long at most, ms; 0 gives it up
-- Returns '' if this token has it (or has given it up), else who has it.
-- Effects: it is taken, renewed, or free.
local holder = redis.call('GET', KEYS[1])
if holder and string.sub(holder, 1, #ARGV[1]) ~= ARGV[1] then
  return ARGV[3] == '0' and '' or string.sub(holder, #ARGV[1] + 2)
end
if ARGV[3] == '0' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
end
return ''
