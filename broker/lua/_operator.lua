-- What a call of an operator did is kept for ten minutes under its token, so that the call may be
-- repeated when its reply was lost.

-- The stored outcome of this call, or nil.
local function operator_before(key)
  local said = redis.call('GET', key)
  return said and cjson.decode(said)
end

-- Keeps the outcome of this call and returns it.
local function operator_done(key, outcome)
  redis.call('SET', key, cjson.encode(outcome), 'EX', 600)
  return outcome
end

-- An error if a key holds something else than it should: a command that fails in the middle would
-- leave half of the work done. Takes pairs of key and kind.
local function operator_misplaced(pairs_flat)
  for i = 1, #pairs_flat, 2 do
    local kind = redis.call('TYPE', pairs_flat[i])['ok']
    if kind ~= 'none' and kind ~= pairs_flat[i + 1] then
      return redis.error_reply('WRONGTYPE ' .. pairs_flat[i] .. ' holds a ' .. kind
        .. ' and not a ' .. pairs_flat[i + 1])
    end
  end
end

-- One audit record a letter, in the shape of a settled batch of none.
local function operator_audit(audit, by, now_ms, action, letter, entry)
  redis.call('XADD', audit, 'MAXLEN', '~', 100000, '*', 'r', cjson.encode({writer = by, batch = 0,
    at = now_ms, n = 0, latency = {}, action = action, letter = letter, entry = entry}))
end
