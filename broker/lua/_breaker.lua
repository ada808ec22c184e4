-- One breaker's state, in GUARDS:breakers as JSON. One that is closed and has no failures is not there.
--   state      closed (failures are counted), open, half_open
--   failures   in a row
--   since      when it came into this state (closed: when the first failure was counted), ms
--   last       when a failure was counted last, ms          call  who counted it, or set it by hand
--   until_ms   open: from when on a probe may run, ms; 0 = not before somebody says so
--   reset_ms   how long it stays open
--   why, by    what opened it, and who
--   probe      half_open: the one that runs, or ''; probe_by: the consumer; probe_until: its lease, ms
local function breaker_read(breakers, name)
  local text = redis.call('HGET', breakers, name)
  return text and cjson.decode(text), text or ''
end

local function breaker_write(breakers, name, record)
  local text = cjson.encode(record)
  redis.call('HSET', breakers, name, text)
  return text
end

-- What each script on a breaker returns: the state it brought the breaker into ('' = it is as it was,
-- or failures were counted), now ms, the number of the last change, and the record's text.
local function breaker_reply(to, now_ms, number, text)
  return {to, now_ms, number, text}
end
