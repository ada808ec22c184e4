#!lua flags=allow-oom
-- Deletes checkpoints. Harmless to repeat.
-- KEYS  1 index HASH  2 bodies HASH  3 audit STREAM
-- ARGV  1 one that must stay: if it is not there, nothing is deleted  2 audit record, JSON
--       then the ids of those that go
-- Returns how many went; -1 if the one that must stay is not there.
-- Effects, in order: 1 audit record, if any goes  2 lines of the index  3 bodies.
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return -1 end
local ids = {}
for i = 3, #ARGV do
  local there = redis.call('HEXISTS', KEYS[1], ARGV[i]) + redis.call('HEXISTS', KEYS[2], ARGV[i])
  if ARGV[i] ~= ARGV[1] and there > 0 then ids[#ids + 1] = ARGV[i] end
end
if #ids > 0 then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', 100000, '*', 'r', ARGV[2])
  redis.call('HDEL', KEYS[1], unpack(ids))
  redis.call('HDEL', KEYS[2], unpack(ids))
end
return #ids
