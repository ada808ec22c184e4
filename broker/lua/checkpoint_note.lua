#!lua flags=allow-oom
-- Adds a record to the audit of checkpoints and retention.
-- KEYS  1 audit STREAM
-- ARGV  1 record, JSON
-- Returns its id.
-- Effects: it is there (again, if the reply was lost).
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', 100000, '*', 'r', ARGV[1])
