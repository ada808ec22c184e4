-- Adds to the history of a schedule, whose newest entries are kept; takes pairs of field and value.
local function history_add(history, most, fields)
  redis.call('XADD', history, 'MAXLEN', most, '*', unpack(fields))
end
