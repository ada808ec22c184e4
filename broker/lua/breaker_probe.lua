#!lua flags=allow-oom
-- Asks for, prolongs or gives up the one probe of a half-open breaker.
-- KEYS  1 breakers HASH  2 control STREAM  3 audit STREAM
-- ARGV  1 breaker  2 which run  3 'take', 'renew' or 'release'  4 lease, ms  5 by whom
-- Returns as _breaker.lua says: 'closed' (it may run, as any other), 'probe' (it may: it is the one),
-- '' (it may not; or its lease is lost). Harmless to repeat.
-- A probe whose lease is over is dead: another takes its place.
-- Effects of 'take', in order: 1 audit record  2 the record  3 the change; of 'release': 2, 3; 'renew': 2.
--@include _time.lua
--@include _guards.lua
--@include _breaker.lua
local breakers, control, audit, name, run = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local _, now_ms = server_time()
local record, text = breaker_read(breakers, name)
if not record or record.state == 'closed' then
  return breaker_reply('closed', now_ms, guards_number(control), text)
end
local own = record.state == 'half_open' and record.probe == run
if ARGV[3] == 'release' then
  if not own then return breaker_reply('', now_ms, guards_number(control), text) end
  record.probe, record.probe_by, record.probe_until = '', '', 0
  text = breaker_write(breakers, name, record)
  return breaker_reply('', now_ms, guards_tell(control, 'b', name, text), text)
end
if own then
  record.probe_until = now_ms + tonumber(ARGV[4])
  text = breaker_write(breakers, name, record)
  return breaker_reply('probe', now_ms, guards_number(control), text)
end
local due = record.state == 'half_open' and record.probe_until <= now_ms
  or record.state == 'open' and record.until_ms > 0 and record.until_ms <= now_ms
if ARGV[3] == 'renew' or not due then
  return breaker_reply('', now_ms, guards_number(control), text)
end
if record.state == 'open' then
  guards_audit(audit, now_ms, 'breaker', name, 'open', 'half_open', 'its reset time has passed', ARGV[5])
  record.since = now_ms
elseif record.probe ~= '' then
  guards_audit(audit, now_ms, 'breaker', name, 'half_open', 'half_open',
    'the probe of ' .. record.probe_by .. ' has vanished', ARGV[5])
end
record.state, record.probe, record.probe_by, record.call = 'half_open', run, ARGV[5], ''
record.probe_until = now_ms + tonumber(ARGV[4])
text = breaker_write(breakers, name, record)
return breaker_reply('probe', now_ms, guards_tell(control, 'b', name, text), text)
