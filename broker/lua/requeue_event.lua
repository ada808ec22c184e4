#!lua
-- Makes dead letters of one subscription and stream pending again, at their place in the log.
-- KEYS  1 dead STREAM  2 audit STREAM  3 operator STRING  4 entries STREAM  5 parked ZSET
--       6 options HASH  7 done HASH  8 done.old HASH  9 wake STREAM
-- ARGV  1 who asks for it  2 group
--       then, for each letter: its id, entry id, event id (16 bytes) or '' if it is not known
-- Returns, for each letter: 'requeued'; 'gone' (it is no dead letter any more: somebody else put it
-- back or purged it); or, the letter being kept, 'trimmed' (the log does not have the entry any
-- more), 'pending' (the entry is claimed or parked already), 'no_group' (the subscription does not
-- exist on this stream).
-- A call that was done before returns its stored outcome and does nothing: its reply was lost.
-- Effects of each letter, in order: 1 the entry is pending, held by nobody, never delivered  2 it is
-- parked, due at once  3 its retry state goes  4 its done mark goes  5 audit record  6 XDEL of the
-- letter. In the end a reader is woken.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _time.lua
--@include _order.lua
--@include _operator.lua
local before = operator_before(KEYS[3])
if before then return before end
local dead, audit, entries, parked, options = KEYS[1], KEYS[2], KEYS[4], KEYS[5], KEYS[6]
local refused = operator_misplaced({dead, 'stream', audit, 'stream', entries, 'stream',
  parked, 'zset', options, 'hash', KEYS[7], 'hash', KEYS[8], 'hash', KEYS[9], 'stream'})
if refused then return refused end
local _, now_ms = server_time()
local group = ARGV[2]

local function requeue(id, entry, event_id)
  if #redis.call('XRANGE', dead, id, id) == 0 then return 'gone' end
  if #redis.call('XRANGE', entries, entry, entry) == 0 then return 'trimmed' end
  local held = redis.pcall('XPENDING', entries, group, entry, entry, 1)
  if held.err then return 'no_group' end
  if #held > 0 then return 'pending' end
  redis.call('XCLAIM', entries, group, '__free__', 0, entry, 'FORCE', 'RETRYCOUNT', 0, 'JUSTID')
  redis.call('ZADD', parked, back_score(entry), entry)
  redis.call('HDEL', options, entry)
  if event_id ~= '' then
    redis.call('HDEL', KEYS[7], event_id)
    redis.call('HDEL', KEYS[8], event_id)
  end
  operator_audit(audit, ARGV[1], now_ms, 'requeue', id, entry)
  redis.call('XDEL', dead, id)
  return 'requeued'
end

local outcome = {}
local any = false
for i = 3, #ARGV, 3 do
  outcome[#outcome + 1] = requeue(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  any = any or outcome[#outcome] == 'requeued'
end
if any then redis.call('XADD', KEYS[9], 'MAXLEN', 16, '*', 'w', 1) end
return operator_done(KEYS[3], outcome)
