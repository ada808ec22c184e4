#!lua flags=allow-oom
-- Opens, closes or resets a breaker by hand.
-- KEYS  1 breakers HASH  2 control STREAM  3 audit STREAM
-- ARGV  1 breaker  2 'open', 'close' or 'reset'  3 why  4 by whom
--       5 for how long it stays open, ms; 0 = until somebody says otherwise  6 names this call
-- Returns as _breaker.lua says, but {from, now ms, number, record}: from is the state it was in.
-- 'open' also prolongs an open one; 'close' forgets it, with its failures; 'reset' makes the reset time
-- of an open one pass now, gives a probe up that is under way, and forgets failures of a closed one.
-- Harmless to repeat: an 'open' with the same name of the call, and what changes nothing, does nothing.
-- Effects, in order: 1 audit record  2 the record  3 the change.
--@include _time.lua
--@include _guards.lua
--@include _breaker.lua
local breakers, control, audit, name, to = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local _, now_ms = server_time()
local record, text = breaker_read(breakers, name)
local from = record and record.state or 'closed'
local reset_ms = tonumber(ARGV[5])
if record and record.call == ARGV[6] or to ~= 'open' and not record then
  return breaker_reply(from, now_ms, guards_number(control), text)
end
if to == 'open' then
  guards_audit(audit, now_ms, 'breaker', name, from, 'open', ARGV[3], ARGV[4])
  text = breaker_write(breakers, name, {state = 'open', failures = record and record.failures or 0,
    since = now_ms, until_ms = reset_ms > 0 and now_ms + reset_ms or 0, reset_ms = reset_ms,
    why = ARGV[3], by = ARGV[4], probe = '', probe_by = '', probe_until = 0, call = ARGV[6],
    last = record and record.last or 0})
elseif to == 'reset' and from ~= 'closed' then
  guards_audit(audit, now_ms, 'breaker', name, from, 'half_open', ARGV[3], ARGV[4])
  if from == 'open' then record.since = now_ms end
  record.state, record.call = 'half_open', ARGV[6]
  record.probe, record.probe_by, record.probe_until = '', '', 0
  text = breaker_write(breakers, name, record)
else
  guards_audit(audit, now_ms, 'breaker', name, from, 'closed', ARGV[3], ARGV[4])
  redis.call('HDEL', breakers, name)
  text = ''
end
return breaker_reply(from, now_ms, guards_tell(control, 'b', name, text), text)
