-- Changes of breakers and halts are told to all processes by the control stream. They are numbered
-- without gaps: who finds one has missed a change, and reads everything anew.

-- The number of the last change, as text.
local function guards_number(control)
  local last = redis.call('XREVRANGE', control, '+', '-', 'COUNT', 1)[1]
  return last and last[2][2] or '0'
end

-- Tells that `name`, of kind 'b' (breaker) or 'h' (halt), is `value` now ('' = there is none).
-- Returns the change's number, as text.
local function guards_tell(control, kind, name, value)
  local number = string.format('%.0f', tonumber(guards_number(control)) + 1)
  redis.call('XADD', control, 'MAXLEN', 1000, '*', 'i', number, 'k', kind, 'n', name, 'v', value)
  return number
end

-- One record a change.
local function guards_audit(audit, now_ms, what, name, from, to, why, by)
  redis.call('XADD', audit, 'MAXLEN', '~', 100000, '*', 'r', cjson.encode({what = what, name = name,
    from = from, to = to, why = why, by = by, at = now_ms}))
end
