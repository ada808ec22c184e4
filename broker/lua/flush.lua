#!lua flags=allow-oom
-- Empties a work queue: queued, pending and delayed messages (dead letters stay).
-- KEYS  1 delayed ZSET  2 delayed.messages HASH  then a lane each 4: entries STREAM, parked ZSET,
--       options HASH, suspects ZSET
-- ARGV  1 group
-- Returns the number of messages that were dropped. The groups are made anew, since deleting a
-- stream deletes them; readers that were blocked on it see NOGROUP and read on.
local dropped = redis.call('ZCARD', KEYS[1])
redis.call('UNLINK', KEYS[1], KEYS[2])
for i = 3, #KEYS, 4 do
  dropped = dropped + redis.call('XLEN', KEYS[i])
  redis.call('UNLINK', KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3])
  redis.call('XGROUP', 'CREATE', KEYS[i], ARGV[1], '0', 'MKSTREAM')
end
return dropped
