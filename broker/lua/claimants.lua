#!lua flags=allow-oom
-- Who shares the partitions of an ordered subscription.
-- KEYS  1 claimants HASH  2 alive HASH  3 shift STREAM
-- Returns {id of the newest entry of the shift stream, consumer...}.
-- Effects: claimants that are not alive any more are dropped.
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
local reply = {newest and newest[1] or '0-0'}
for _, consumer in ipairs(redis.call('HKEYS', KEYS[1])) do
  if redis.call('HEXISTS', KEYS[2], consumer) == 1 then
    reply[#reply + 1] = consumer
  else
    redis.call('HDEL', KEYS[1], consumer)
  end
end
return reply
