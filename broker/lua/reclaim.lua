#!lua flags=allow-oom
-- Takes what a dead consumer held of one stream, in log order, a page a call.
-- KEYS  1 entries STREAM  2 parked ZSET  3 suspects ZSET  4 wake STREAM  5 fence STRING
--       6 dead STREAM  7 options HASH  8 owner STRING
-- ARGV  1 group  2 consumer  3 fence it (1), or it left by itself (0)  4 max deliveries
--       5 source's name  6 delete what is settled (1)  7 payload field  8 page
-- Returns {handed back, suspects, dead-lettered, more (1) or none left (0)}.
-- Effects, in order: 1 fence: from now on nothing it sends is committed  2 entries that were
-- delivered too often become dead letters  3 those of an earlier crash become suspects, which run
-- one at a time  4 the others are handed back; their delivery count stays  5 when nothing is left,
-- the consumer is deleted from the group, and what it owned is free  6 a reader is woken.
--@include _time.lua
--@include _order.lua
local entries, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local _, now_ms = server_time()
if ARGV[3] == '1' then redis.call('SET', KEYS[5], 1, 'EX', 86400) end
local page = tonumber(ARGV[8])
local pending = redis.pcall('XPENDING', entries, group, '-', '+', page, consumer)
if pending.err then -- no such stream or group: nothing to take
  if redis.call('GET', KEYS[8]) == consumer then redis.call('UNLINK', KEYS[8]) end
  return {0, 0, 0, 0}
end
local back, suspects, dead = 0, 0, 0
for _, held in ipairs(pending) do
  local id, deliveries = held[1], held[4]
  if deliveries >= tonumber(ARGV[4]) then
    local entry = redis.call('XRANGE', entries, id, id)[1]
    local payload = ''
    if entry then
      for i = 1, #entry[2], 2 do
        if entry[2][i] == ARGV[7] then payload = entry[2][i + 1] end
      end
    end
    redis.call('XADD', KEYS[6], '*', 'source', ARGV[5], 'entry', id, 'data', payload,
      'cause', 'killed_worker', 'error',
      'Its worker died ' .. deliveries .. ' times while it had this entry.', 'traceback', '',
      'attempts', deliveries, 'consumer', consumer, 'at', now_ms)
    redis.call('XACK', entries, group, id)
    if ARGV[6] == '1' then redis.call('XDEL', entries, id) end
    redis.call('HDEL', KEYS[7], id)
    dead = dead + 1
  else
    redis.call('XCLAIM', entries, group, '__free__', 0, id, 'JUSTID')
    if deliveries >= 2 then
      redis.call('ZADD', KEYS[3], back_score(id), id)
      suspects = suspects + 1
    else
      redis.call('ZADD', KEYS[2], back_score(id), id)
      back = back + 1
    end
  end
end
local more = #pending == page
if not more then
  if redis.call('GET', KEYS[8]) == consumer then redis.call('UNLINK', KEYS[8]) end
  redis.call('XGROUP', 'DELCONSUMER', entries, group, consumer)
  redis.pcall('XGROUP', 'DELCONSUMER', KEYS[4], group, consumer) -- there may be none
end
-- Also if nothing was taken: it may have been the only one that knew when the next entry is due.
if not more or back + suspects > 0 then redis.call('XADD', KEYS[4], 'MAXLEN', 16, '*', 'w', 1) end
return {back, suspects, dead, more and 1 or 0}
