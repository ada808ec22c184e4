#!lua flags=allow-oom
-- Ends a batch of deliveries of one consumer: the only script that commits.
-- KEYS  1 batch STRING
--       a group each 14: entries STREAM, parked ZSET, options HASH, done HASH, done.old HASH,
--         dead STREAM, audit STREAM, wake STREAM, suspects ZSET, fence STRING, keys HASH,
--         keys.old HASH, owner STRING, state HASH
--       then a log target each 3: entries STREAM, ids HASH, ids.old HASH
--       then a queue target each 5: entries STREAM, delayed ZSET, delayed.messages HASH, wake STREAM,
--         cancelled ZSET
-- ARGV  1 batch number  2 number of groups  3 number of log targets  4 window of publish ids, ms
--       then a group each:
--         group name, consumer, delete (1: XDEL what is settled), mark (1: write done marks), window
--         of done marks, ms (0: for ever), ordered (1: wake the partition's owner if it is another),
--         audit record or '', number p of plain entries, p entry ids, p event ids (only if mark),
--         number c of clear entry ids (whose retry state is dropped), c entry ids,
--         number s of special operations, and each of these as
--           kind, entry id, event id,
--           what to do with its business key: '' (it has none), d (it is done), f (free it, if this
--             run has it), u (nobody knows whether it was done); and if it has one: the key, its
--             window, ms (0: for ever), the run that reserved it, and by what name the dead letter is
--             known from now on; see reserve.lua
--           number e of emits, each: log target, event id, event
--           number q of messages, each: queue target, delay ms or -1, member, message
--           number w of states, each: field, the token with which it was read ('' if there was none),
--             and the token and bytes that it has from now on, or '' to leave it as it is
--           and by kind: E (done, or retried by message)  nothing more
--                        P (parked)         delay ms, options ('' keeps what is stored)
--                        B (handed back)    nothing more
--                        D (dead-lettered)  number f of fields, fields and values
-- Returns a list: first the number of groups that were fenced, then for each group 'FENCED', or an
-- error (a key of it holds something else: none of its entries was settled), or a list of {entry id, text} of what was not settled as asked: text 'GONE' (it was not pending
-- any more; nothing is wrong with the others), 'DUPLICATE' (a done mark was there, or its business
-- key was done: settled, its emits not repeated), 'CANCELLED' (settled; a message that should have followed was cancelled, its
-- retry for example), 'STATE' (a state has not the token with which it was read: what the handler did
-- with it is void; not settled, still pending), or an error (not settled, still pending).
-- A consumer that is fenced for one of the groups is fenced for all: what belongs together (a handler's
-- batch of events of several streams) is committed as a whole or not at all.
-- A batch number that was done before returns its stored outcome and does nothing: its reply was
-- lost. Effects of a group, in order: 1 emits, messages and states  2 dead letters, business keys  3 done
-- marks  4 XACK (XDEL)  5 parking  6 audit record. An emit that fails leaves its entry pending.
--@include _time.lua
--@include _order.lua
--@include _window.lua
local last = redis.call('GET', KEYS[1])
if last then
  local at = string.find(last, ' ', 1, true)
  local done = tonumber(string.sub(last, 1, at - 1))
  if done == tonumber(ARGV[1]) then return cjson.decode(string.sub(last, at + 1)) end
  if done > tonumber(ARGV[1]) then
    return redis.error_reply('STALE batch ' .. ARGV[1] .. ' came after batch ' .. done)
  end
end

local now_us, now_ms = server_time()
local n_groups, n_logs, window_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local logs_at = 1 + 14 * n_groups
local queues_at = logs_at + 3 * n_logs
local a = 5
local fenced = 0
local reply = {0}
local rotated = {}

local function take()
  local value = ARGV[a]
  a = a + 1
  return value
end

local function take_many(count)
  local values = {}
  for i = 1, count do values[i] = ARGV[a + i - 1] end
  a = a + count
  return values
end

-- Wakes one blocked reader.
local function wake(key) redis.call('XADD', key, 'MAXLEN', 16, '*', 'w', 1) end

-- An error if `key` holds something else than `kind`. Looked at before anything is written: a command
-- that fails in the middle would leave the rest of the batch half done.
local types = {}
local function misplaced(key, kind)
  if not types[key] then types[key] = redis.call('TYPE', key)['ok'] end
  if types[key] == 'none' or types[key] == kind then return nil end
  return 'WRONGTYPE ' .. key .. ' holds a ' .. types[key] .. ' and not a ' .. kind
end

local function misplaced_log(target)
  local at = logs_at + 3 * (target - 1)
  return misplaced(KEYS[at + 1], 'stream') or misplaced(KEYS[at + 2], 'hash')
    or misplaced(KEYS[at + 3], 'hash')
end

local function misplaced_queue(target)
  local at = queues_at + 5 * (target - 1)
  return misplaced(KEYS[at + 1], 'stream') or misplaced(KEYS[at + 2], 'zset')
    or misplaced(KEYS[at + 3], 'hash') or misplaced(KEYS[at + 4], 'stream')
    or misplaced(KEYS[at + 5], 'zset')
end

local function emit(target, id, event)
  local at = logs_at + 3 * (target - 1)
  local entries, ids, ids_old = KEYS[at + 1], KEYS[at + 2], KEYS[at + 3]
  if not rotated[ids] then
    window_rotate(ids, ids_old, window_ms)
    rotated[ids] = true
  end
  if window_lookup(ids, ids_old, {id})[1] then return end
  window_store(ids, {id, redis.call('XADD', entries, '*', 'd', event, 'a', now_us)}, window_ms)
end

-- Adds a message; false if it was cancelled.
local function add_message(target, delay_ms, member, message)
  local at = queues_at + 5 * (target - 1)
  if redis.call('ZSCORE', KEYS[at + 5], string.match(member, ':(.*)$') or '') then return false end
  if delay_ms < 0 then
    redis.call('XADD', KEYS[at + 1], '*', 'm', message, 'a', now_us)
    return true
  end
  local due = now_ms + delay_ms
  local first = redis.call('ZRANGE', KEYS[at + 2], 0, 0, 'WITHSCORES')
  redis.call('HSET', KEYS[at + 3], member, message)
  redis.call('ZADD', KEYS[at + 2], due, member)
  if not first[2] or due < tonumber(first[2]) then wake(KEYS[at + 4]) end
  return true
end

local dead_consumers = {}
for g = 1, n_groups do
  local fence = KEYS[1 + 14 * (g - 1) + 10]
  if redis.call('EXISTS', fence) == 1 then
    dead_consumers[string.match(fence, ':fence:(.*)$')] = true
  end
end

-- Calls `action` with parts of a list that are short enough for one command.
local function in_parts(list, action)
  for first = 1, #list, 2000 do
    action({unpack(list, first, math.min(first + 1999, #list))})
  end
end

for g = 1, n_groups do
  local at = 1 + 14 * (g - 1)
  local entries, parked, options = KEYS[at + 1], KEYS[at + 2], KEYS[at + 3]
  local done, done_old, dead = KEYS[at + 4], KEYS[at + 5], KEYS[at + 6]
  local audit, wake_key, suspects = KEYS[at + 7], KEYS[at + 8], KEYS[at + 9]
  local keys, keys_old, owner = KEYS[at + 11], KEYS[at + 12], KEYS[at + 13]
  local state = KEYS[at + 14]
  local group, consumer, delete, mark = take(), take(), take() == '1', take() == '1'
  local mark_ms, ordered = tonumber(take()), take() == '1'
  local record = take()
  local problems = {}
  local is_fenced = dead_consumers[consumer]
  local refused = misplaced(entries, 'stream') or misplaced(parked, 'zset')
    or misplaced(options, 'hash') or misplaced(done, 'hash') or misplaced(done_old, 'hash')
    or misplaced(dead, 'stream') or misplaced(audit, 'stream') or misplaced(wake_key, 'stream')
    or misplaced(suspects, 'zset') or misplaced(keys, 'hash') or misplaced(keys_old, 'hash')
    or misplaced(state, 'hash')
  -- Nothing of this group is done, but its arguments are read to get to the next group's.
  local idle = is_fenced or refused
  if mark and not idle then window_rotate(done, done_old, mark_ms) end

  local settled, marks = {}, {}
  local function settle(entry_id, event_id)
    settled[#settled + 1] = entry_id
    if mark and event_id ~= '' then
      marks[#marks + 1] = event_id
      marks[#marks + 1] = 1
    end
  end

  local n_plain = tonumber(take())
  local plain = take_many(n_plain)
  local plain_events = mark and take_many(n_plain) or nil
  if not idle then
    for i = 1, n_plain do settle(plain[i], mark and plain_events[i] or '') end
  end
  local clear = take_many(tonumber(take()))
  local parks, failed = {}, {}

  for _ = 1, tonumber(take()) do
    local kind, entry_id, event_id, key_is = take(), take(), take(), take()
    local key, key_ms, run, name
    if key_is ~= '' then key, key_ms, run, name = take(), tonumber(take()), take(), take() end
    local failure
    local duplicate = false
    -- Done before: whatever became of it this time, it is settled and causes nothing.
    if mark and not idle and kind ~= 'B' and event_id ~= '' then
      duplicate = window_lookup(done, done_old, {event_id})[1] and true or false
    end
    local stood, is_done -- what is known of its business key
    if key and not idle then
      window_rotate(keys, keys_old, key_ms)
      stood = window_lookup(keys, keys_old, {key})[1]
      is_done = stood and string.sub(stood, 1, 1) == 'd'
      if kind == 'E' and is_done then duplicate = true end
    end
    local emits, messages, states = {}, {}, {}
    for i = 1, tonumber(take()) do
      emits[i] = {tonumber(take()), take(), take()}
      failure = failure or misplaced_log(emits[i][1])
    end
    for i = 1, tonumber(take()) do
      messages[i] = {tonumber(take()), tonumber(take()), take(), take()}
      failure = failure or misplaced_queue(messages[i][1])
    end
    for i = 1, tonumber(take()) do
      states[i] = {take(), take(), take()}
      if not idle and not failure then
        local is = redis.call('HGET', state, states[i][1])
        if string.sub(is or '', 1, 8) ~= states[i][2] then failure = 'STATE' end
      end
    end
    -- What cannot be recognised when it is done twice is done only for the entry's owner. (Emits
    -- are known by their ids, done marks by the event's.)
    if not idle and not failure and (kind ~= 'E' or #messages > 0) then
      local held = redis.pcall('XPENDING', entries, group, entry_id, entry_id, 1, consumer)
      if held.err or #held == 0 then failure = 'GONE' end
    end
    if not idle and not duplicate and not failure then
      for _, one in ipairs(emits) do emit(one[1], one[2], one[3]) end
      for _, one in ipairs(messages) do
        if not add_message(one[1], one[2], one[3], one[4]) then
          problems[#problems + 1] = {entry_id, 'CANCELLED'}
        end
      end
      for _, one in ipairs(states) do
        if one[3] ~= '' then redis.call('HSET', state, one[1], one[3]) end
      end
    end
    if duplicate then
      problems[#problems + 1] = {entry_id, 'DUPLICATE'}
      settle(entry_id, event_id)
      redis.call('HDEL', options, entry_id) -- that of a retry is not in the list to clear
    end
    if kind == 'E' then
      if not idle and not duplicate and not failure then settle(entry_id, event_id) end
    elseif kind == 'P' then
      local delay_ms, text = tonumber(take()), take()
      if not duplicate and not failure then parks[#parks + 1] = {entry_id, now_ms + delay_ms, text} end
    elseif kind == 'B' then
      if not failure then parks[#parks + 1] = {entry_id, false, ''} end
    else
      local fields = take_many(tonumber(take()))
      if not idle and not duplicate and not failure then
        redis.call('XADD', dead, '*', unpack(fields))
        settle(entry_id, event_id)
      end
    end
    if failure then
      problems[#problems + 1] = {entry_id, failure}
      failed[entry_id] = true
    elseif key and not idle and not is_done then
      if key_is == 'd' then
        -- Parked, because it could not be committed: it stays reserved, and so nobody knows.
        -- Of an event it is known whose it is: a subscription may be rewound.
        if kind == 'E' then window_store(keys, {key, mark and 'd ' .. entry_id or 'd'}, key_ms) end
      elseif key_is == 'u' then
        -- What stays pending keeps its reservation, and so finds out at its next delivery.
        if kind == 'E' or kind == 'D' then
          local names = {}
          for known in string.gmatch(string.match(stood or '', '^u (.*)$') or '', '%S+') do
            if known ~= name then names[#names + 1] = known end
          end
          names[#names + 1] = name
          local first = math.max(1, #names - 19)
          window_store(keys, {key, 'u ' .. table.concat(names, ' ', first)}, key_ms)
        end
      elseif stood and string.match(stood, '^r %S+ ([^%s?!]+)[?!]?$') == run then
        redis.call('HDEL', keys, key)
        redis.call('HDEL', keys_old, key)
      end
    end
  end

  if is_fenced then
    fenced = fenced + 1
    reply[g + 1] = 'FENCED'
  elseif refused then
    reply[g + 1] = refused
  else
    in_parts(marks, function(part) window_store(done, part, mark_ms) end)
    if #settled > 0 then
      local acked = 0
      in_parts(settled, function(part)
        acked = acked + redis.call('XACK', entries, group, unpack(part))
        if delete then redis.call('XDEL', entries, unpack(part)) end
      end)
      if acked < #settled then problems[#problems + 1] = {'', 'GONE'} end
      -- The next suspect may run now.
      if redis.call('EXISTS', suspects) == 1 then wake(wake_key) end
    end
    -- The new owner holds back the keys of what its predecessor was still running.
    if ordered and redis.call('GET', owner) ~= consumer then wake(wake_key) end
    for _, id in ipairs(clear) do
      -- What was not settled is delivered again, and must know how often it was tried.
      if not failed[id] then redis.call('HDEL', options, id) end
    end
    for _, park in ipairs(parks) do
      -- To __free__: whoever compares its own pending entries with what it holds must not find it.
      local back = not park[2]
      -- RETRYCOUNT 0: the counter finds crash loops; a retry or a hand-back is no crash.
      local claimed = redis.pcall('XCLAIM', entries, group, '__free__', 0, park[1],
        'RETRYCOUNT', 0, 'JUSTID')
      if claimed.err then
        problems[#problems + 1] = {park[1], claimed.err}
      elseif #claimed == 1 then
        local first = redis.call('ZRANGE', parked, 0, 0, 'WITHSCORES')
        redis.call('ZADD', parked, park[2] or back_score(park[1]), park[1])
        if park[3] ~= '' then redis.call('HSET', options, park[1], park[3]) end
        if back or not first[2] or park[2] < tonumber(first[2]) then wake(wake_key) end
      else
        problems[#problems + 1] = {park[1], 'GONE'}
      end
    end
    if record ~= '' then
      redis.call('XADD', audit, 'MAXLEN', '~', 100000, '*', 'r', record)
    end
    reply[g + 1] = problems
  end
end
reply[1] = fenced
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. cjson.encode(reply), 'EX', 3600)
return reply
