#!lua flags=allow-oom
-- Counts a failure; the last one of a row, and a failed probe, open the breaker.
-- KEYS  1 breakers HASH  2 control STREAM  3 audit STREAM
-- ARGV  1 breaker  2 which run failed  3 failures that open it  4 how long it stays open, ms
--       5 why  6 by whom  7 most breakers that may be known
-- Returns as _breaker.lua says; 'full' where it would be one breaker too many, and nothing was counted.
-- A run is counted once; a failure of other runs than the probe means nothing once the breaker is open.
-- Effects, in order: 1 audit record, if it opens  2 the record  3 the change, if it is the first failure
-- or opens.
--@include _time.lua
--@include _guards.lua
--@include _breaker.lua
local breakers, control, audit, name, run = KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[2]
local _, now_ms = server_time()
local record, text = breaker_read(breakers, name)
if not record then
  if redis.call('HLEN', breakers) >= tonumber(ARGV[7]) then
    return breaker_reply('full', now_ms, guards_number(control), '')
  end
  record = {state = 'closed', failures = 0, since = now_ms, until_ms = 0, why = '', by = '',
    probe = '', probe_by = '', probe_until = 0, call = ''}
end
local probed = record.state == 'half_open' and record.probe == run
if (record.state ~= 'closed' and not probed) or record.call == run then
  return breaker_reply('', now_ms, guards_number(control), text)
end
record.failures = record.failures + 1
record.last, record.call, record.reset_ms = now_ms, run, tonumber(ARGV[4])
if not probed and record.failures < tonumber(ARGV[3]) then
  text = breaker_write(breakers, name, record)
  if record.failures > 1 then return breaker_reply('', now_ms, guards_number(control), text) end
  return breaker_reply('', now_ms, guards_tell(control, 'b', name, text), text)
end
guards_audit(audit, now_ms, 'breaker', name, record.state, 'open', ARGV[5], ARGV[6])
record.state, record.since, record.until_ms = 'open', now_ms, now_ms + record.reset_ms
record.why, record.by, record.probe, record.probe_by, record.probe_until = ARGV[5], ARGV[6], '', '', 0
text = breaker_write(breakers, name, record)
return breaker_reply('open', now_ms, guards_tell(control, 'b', name, text), text)
