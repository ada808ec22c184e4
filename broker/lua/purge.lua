#!lua flags=allow-oom
-- Deletes dead letters of one stream.
-- KEYS  1 dead STREAM  2 audit STREAM  3 operator STRING
-- ARGV  1 who asks for it  then the letters' ids
-- Returns, for each letter: 'purged', or 'gone' (it was no dead letter any more).
-- A call that was done before returns its stored outcome and does nothing: its reply was lost.
-- Effects of each letter, in order: 1 audit record  2 XDEL. (Never XTRIM MINID: on a stream that also
-- gets XDEL it makes files that the server refuses to load.)
--@include _time.lua
--@include _operator.lua
local before = operator_before(KEYS[3])
if before then return before end
local dead, audit = KEYS[1], KEYS[2]
local refused = operator_misplaced({dead, 'stream', audit, 'stream'})
if refused then return refused end
local _, now_ms = server_time()
local outcome = {}
for i = 2, #ARGV do
  local letter = redis.call('XRANGE', dead, ARGV[i], ARGV[i])[1]
  if letter then
    local entry = ''
    for j = 1, #letter[2], 2 do
      if letter[2][j] == 'entry' then entry = letter[2][j + 1] end
    end
    operator_audit(audit, ARGV[1], now_ms, 'purge', ARGV[i], entry)
    redis.call('XDEL', dead, ARGV[i])
  end
  outcome[#outcome + 1] = letter and 'purged' or 'gone'
end
return operator_done(KEYS[3], outcome)
