#!lua flags=allow-oom
-- Makes the consumer groups that do not exist yet; also at maxmemory, where XGROUP CREATE alone is
-- refused even if the group exists.
-- KEYS  1..n STREAMs
-- ARGV  1 group  then, for each stream: entry id from which a new group reads
-- Returns an error for each stream that could not get its group, else ''.
local reply = {}
for i = 1, #KEYS do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], ARGV[i + 1], 'MKSTREAM')
  local failed = made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP'
  reply[i] = failed and made.err or ''
end
return reply
