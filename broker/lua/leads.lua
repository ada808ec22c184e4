#!lua flags=no-writes
-- Who leads the schedulers: for a leader's connections, which ask that before any script.
-- KEYS  1 leader STRING
-- Returns the epoch; 0 if nobody has ever led.
return tonumber(string.match(redis.call('GET', KEYS[1]) or '0 ', '^(%d+) ')) or 0
