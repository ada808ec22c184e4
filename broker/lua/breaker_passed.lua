#!lua flags=allow-oom
-- A run has succeeded: ends a row of failures, and closes the breaker if the run was its probe.
-- KEYS  1 breakers HASH  2 control STREAM  3 audit STREAM
-- ARGV  1 breaker  2 which run  3 by whom
-- Returns as _breaker.lua says. Harmless to repeat.
-- Effects, in order: 1 audit record, if it closes  2 the record goes  3 the change.
--@include _time.lua
--@include _guards.lua
--@include _breaker.lua
local breakers, control, audit, name = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local _, now_ms = server_time()
local record, text = breaker_read(breakers, name)
local probed = record and record.state == 'half_open' and record.probe == ARGV[2]
if not record or (record.state ~= 'closed' and not probed) then
  return breaker_reply('', now_ms, guards_number(control), text)
end
if probed then
  guards_audit(audit, now_ms, 'breaker', name, 'half_open', 'closed', 'the probe succeeded', ARGV[3])
end
redis.call('HDEL', breakers, name)
return breaker_reply(probed and 'closed' or '', now_ms, guards_tell(control, 'b', name, ''), '')
