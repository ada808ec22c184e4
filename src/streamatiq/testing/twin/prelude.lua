-- What the server offers to scripts: redis.*, cjson.*, KEYS, ARGV; globals cannot be made.
-- ARGS  dispatch(command, arguments...): a reply; encode(value): JSON; decode(JSON): a value;
--       null: what stands for JSON's null; sha1(text): its digest
-- Returns run(function, keys, argv): true and the script's result, or false and {err, line}.
local dispatch, encode, decode, null, sha1 = ...
local type, select, error, xpcall, tostring = type, select, error, xpcall, tostring
local format, unpack, getinfo = string.format, unpack, debug.getinfo

local function invoke(...)
  local n = select('#', ...)
  if n == 0 then return {err = 'ERR Please specify at least one argument for this redis.call()'} end
  local args = {...}
  for i = 1, n do
    local kind = type(args[i])
    if kind == 'number' then
      args[i] = format('%.17g', args[i])
    elseif kind ~= 'string' then
      return {err = 'ERR Command arguments must be strings or integers'}
    end
  end
  return dispatch(unpack(args, 1, n))
end

local redis = {
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REPL_ALL = 3, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_NONE = 0,
  pcall = invoke,
  sha1hex = sha1,
}

function redis.call(...)
  local reply = invoke(...)
  if type(reply) == 'table' and reply.err then error(reply, 0) end
  return reply
end

function redis.error_reply(text)
  if string.sub(text, 1, 1) == '-' then return {err = string.sub(text, 2)} end
  return {err = string.find(text, ' ', 1, true) and text or 'ERR ' .. text}
end
function redis.status_reply(text) return {ok = text} end
function redis.log() end
function redis.replicate_commands() return true end
function redis.set_repl() end
function redis.setresp() end

-- Scripts see these and nothing else.
local world = {
  redis = redis, server = redis, cjson = {encode = encode, decode = decode, null = null},
}
for _, name in ipairs({
  '_VERSION', 'assert', 'error', 'getmetatable', 'ipairs', 'load', 'loadstring', 'math', 'next',
  'pairs', 'pcall', 'rawequal', 'rawget', 'rawset', 'select', 'setmetatable', 'string', 'table',
  'tonumber', 'tostring', 'type', 'unpack', 'xpcall',
}) do
  world[name] = _G[name]
end
world._G = world
setmetatable(world, {
  __index = function(_, name)
    error('Script attempted to access nonexistent global variable ' .. "'" .. tostring(name) .. "'", 2)
  end,
  __newindex = function() error('Attempt to modify a readonly table', 2) end,
})

-- An error with the line of the script where it was met.
local function located(problem)
  if type(problem) ~= 'table' then problem = {err = 'ERR ' .. tostring(problem)} end
  local level, at = 2, nil
  repeat
    at = getinfo(level, 'Sl')
    level = level + 1
  until not at or at.source == '@user_script'
  return {err = problem.err or 'ERR unknown error', line = at and at.currentline or 0}
end

return function(script, keys, argv)
  rawset(world, 'KEYS', keys)
  rawset(world, 'ARGV', argv)
  local done, result = xpcall(setfenv(script, world), located)
  return done, result -- always two, whatever the script returns
end
