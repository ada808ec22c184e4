-- The server's clock: microseconds as text (exact), milliseconds as a number.
local function server_time()
  local t = redis.call('TIME')
  local us = tonumber(t[1]) * 1000000 + tonumber(t[2])
  return string.format('%.0f', us), math.floor(us / 1000)
end
