#!lua flags=no-writes
-- Who has these entries?
-- KEYS  1 entries STREAM
-- ARGV  1 group, then entry ids
-- Returns, for each: the consumer; '__free__' if it was parked or handed back; '' if it is settled.
local reply = {}
for i = 2, #ARGV do
  local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  reply[i - 1] = not held.err and held[1] and held[1][2] or ''
end
return reply
