-- A time window of ids in two hashes, rotated by age. An id is remembered for at least one window
-- and at most two. The age of the young hash is read from its time to live, so that the server's
-- clock alone decides and there is nothing else to store. A window of 0 ms never ends.

-- Rotates when the young hash is a window old. Call before using either hash.
local function window_rotate(young, old, window_ms)
  if window_ms <= 0 then return end
  local left = redis.call('PTTL', young)
  if left >= 0 and left <= window_ms then
    redis.call('UNLINK', old)
    redis.call('RENAME', young, old)
  end
end

-- What is stored of each of `ids`, or false. At most a few hundred ids.
local function window_lookup(young, old, ids)
  local found = redis.call('HMGET', young, unpack(ids))
  if redis.call('EXISTS', old) == 1 then
    local older = redis.call('HMGET', old, unpack(ids))
    for i = 1, #ids do found[i] = found[i] or older[i] end
  end
  return found
end

-- Stores id, value pairs. At most a few hundred.
local function window_store(young, pairs_flat, window_ms)
  redis.call('HSET', young, unpack(pairs_flat))
  if window_ms <= 0 then
    redis.call('PERSIST', young) -- it may be from a time when the window was a shorter one
  elseif redis.call('PTTL', young) < 0 then
    redis.call('PEXPIRE', young, 2 * window_ms)
  end
end
