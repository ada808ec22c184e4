-- Entry ids are MS-SEQ. Both parts are compared as text: a double does not hold all of them.
local function id_parts(id) return string.match(id, '^(%d+)-(%d+)$') end

local function digits_less(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- Whether entry `a` stands before entry `b`.
local function id_less(a, b)
  local a_ms, a_seq = id_parts(a)
  local b_ms, b_seq = id_parts(b)
  if a_ms ~= b_ms then return digits_less(a_ms, b_ms) end
  return digits_less(a_seq, b_seq)
end

-- What XINFO says, by name; nil if there is no such stream, or it is none.
local function info_of(fields)
  if fields.err then return nil end
  local info = {}
  for i = 1, #fields, 2 do info[fields[i]] = fields[i + 1] end
  return info
end
