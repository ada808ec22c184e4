#!lua
-- Puts dead letters of a work queue back into their lanes.
-- KEYS  1 dead STREAM  2 audit STREAM  3 operator STRING  4 cancelled ZSET
--       5-7 entries STREAM of each lane, from high to low
-- ARGV  1 who asks for it
--       then, for each letter: its id, lane (1-3), message id or '', message or '' to put it back as
--       it stands in the letter
-- Returns, for each letter: 'requeued', or 'gone' (it is no dead letter any more: somebody else put
-- it back or purged it).
-- A call that was done before returns its stored outcome and does nothing: its reply was lost.
-- Effects of each letter, in order: 1 XADD to its lane  2 audit record  3 XDEL of the letter
-- 4 a cancellation of the message is forgotten: to requeue it was the later decision.
-- Not allowed at maxmemory (no allow-oom flag): refused before anything is written.
--@include _time.lua
--@include _operator.lua
local before = operator_before(KEYS[3])
if before then return before end
local dead, audit = KEYS[1], KEYS[2]
local refused = operator_misplaced({dead, 'stream', audit, 'stream', KEYS[4], 'zset',
  KEYS[5], 'stream', KEYS[6], 'stream', KEYS[7], 'stream'})
if refused then return refused end
local now_us, now_ms = server_time()
local outcome = {}
for i = 2, #ARGV, 4 do
  local id, lane, message_id, message = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local letter = redis.call('XRANGE', dead, id, id)[1]
  if not letter then
    outcome[#outcome + 1] = 'gone'
  else
    local entry = ''
    for j = 1, #letter[2], 2 do
      if letter[2][j] == 'data' and message == '' then message = letter[2][j + 1] end
      if letter[2][j] == 'entry' then entry = letter[2][j + 1] end
    end
    redis.call('XADD', KEYS[4 + lane], '*', 'm', message, 'a', now_us)
    operator_audit(audit, ARGV[1], now_ms, 'requeue', id, entry)
    redis.call('XDEL', dead, id)
    if message_id ~= '' then redis.call('ZREM', KEYS[4], message_id) end
    outcome[#outcome + 1] = 'requeued'
  end
end
return operator_done(KEYS[3], outcome)
