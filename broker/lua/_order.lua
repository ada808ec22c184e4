-- The score of an entry that is handed back: due at once, in the order of the stream. Entry ids are
-- MS-SEQ; the first 4096 of a millisecond keep their order in a double.
local function back_score(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.format('%.6f', tonumber(ms) + math.min(tonumber(seq), 4095) / 4096)
end
