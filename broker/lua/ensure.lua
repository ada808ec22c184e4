#!lua flags=allow-oom
-- Makes the consumer groups that do not exist yet; also at maxmemory, where XGROUP CREATE alone is
-- refused even if the group exists.
-- KEYS  1..n STREAMs
-- ARGV  1 group  then, for each stream: entry id from which a new group reads
-- Returns an error for each stream that could not get its group, else ''.
-- A new group is told how many entries lie before its start (ENTRIESREAD), for the server cannot find
-- that out in the middle of a stream, and would not know the group's lag. At `0` these are the
-- entries that were trimmed: nothing is deleted from the middle of a log.
local reply = {}

local function entries_before(stream, start)
  local fields = redis.pcall('XINFO', 'STREAM', stream)
  if fields.err then return 0 end -- no such stream
  local info = {}
  for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
  if start == '$' then return info['entries-added'] end
  if start == '0' then return info['entries-added'] - info['length'] end
  return -1 -- not known
end

for i = 1, #KEYS do
  local made = redis.pcall('XGROUP', 'CREATE', KEYS[i], ARGV[1], ARGV[i + 1], 'MKSTREAM',
    'ENTRIESREAD', entries_before(KEYS[i], ARGV[i + 1]))
  local failed = made.err and string.sub(made.err, 1, 9) ~= 'BUSYGROUP'
  reply[i] = failed and made.err or ''
end
return reply
