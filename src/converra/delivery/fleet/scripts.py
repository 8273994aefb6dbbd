"""The Lua scripts of the Redis engine. Each touches the keys of one lane only, and so one slot of a cluster.

They are sent as text with each call: Redis compiles a script once, and `EVALSHA` does not work in a cluster's pipeline.
"""

from __future__ import annotations

GROUP = "relay"
"""Consumer group, and its only consumer: a successor reads again what the consumer has read."""

HAND_OVER = """
for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 'e', ARGV[i]) end
return redis.call('HINCRBY', KEYS[2], ARGV[1], #ARGV - 1)
"""
"""Keys: stream, waiting. Arguments: the producer, then entries. A full server refuses all of them."""

TAKE = f"""
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
redis.pcall('XGROUP', 'CREATE', KEYS[2], '{GROUP}', '0', 'MKSTREAM')
return 1
"""
"""Keys: lease, stream. Arguments: token, milliseconds."""

RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""
"""Key: lease. Arguments: token, milliseconds."""

GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
"""Key: lease. Argument: token."""

READ = f"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('XREADGROUP', 'GROUP', '{GROUP}', '{GROUP}', 'COUNT', ARGV[3], 'STREAMS', KEYS[2], ARGV[2])
"""
"""Keys: lease, stream. Arguments: token, id, count. A former holder must not read: no process would send it."""

SAVE = f"""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], 's', ARGV[3], 'at', time[1] * 1000 + math.floor(time[2] / 1000))
if ARGV[4] == '0' then redis.call('PERSIST', KEYS[2]) else redis.call('PEXPIRE', KEYS[2], ARGV[4]) end
if ARGV[6] == '' then redis.call('ZREM', KEYS[4], ARGV[5]) else redis.call('ZADD', KEYS[4], ARGV[6], ARGV[5]) end
if ARGV[7] ~= '' then redis.call('HSETNX', KEYS[2], 'id', ARGV[7]) end
local at = 8
local function groups(handle)
  local count = tonumber(ARGV[at]); at = at + 1
  for _ = 1, count do at = handle(at) end
end
groups(function(i) redis.call('HSET', KEYS[5], ARGV[i], ARGV[i + 1]); return i + 2 end)
groups(function(i) redis.call('HINCRBY', KEYS[6], ARGV[i], ARGV[i + 1]); return i + 2 end)
groups(function(i)
  local ids = tonumber(ARGV[i + 1])
  local gone = 0
  for j = i + 2, i + 1 + ids, 500 do
    local last = math.min(j + 499, i + 1 + ids)
    redis.call('XACK', KEYS[3], '{GROUP}', unpack(ARGV, j, last))
    gone = gone + redis.call('XDEL', KEYS[3], unpack(ARGV, j, last))
  end
  if gone > 0 and redis.call('HINCRBY', KEYS[7], ARGV[i], -gone) <= 0 then redis.call('HDEL', KEYS[7], ARGV[i]) end
  return i + 2 + ids
end)
return 1
"""
"""Keys: lease, conversation, stream, open, dead, counts, waiting.

Arguments: token, milliseconds of the lease, ledger, milliseconds until it is forgotten, its key, when it was touched,
the API's id; then three lists with their lengths: dead messages, counters, and by producer the ids of entries that are
done.
"""

BEAT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
return redis.call('ZCARD', KEYS[1])
"""
"""Key: the living. Arguments: a member, milliseconds after which one counts as dead."""

WINDOW = 61.0
"""Seconds that count as a minute: a request may reach the API up to a second later than another one after its turn."""

ADMIT = f"""
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local blocked = tonumber(redis.call('GET', KEYS[1]) or '0')
if blocked > now then return math.ceil(blocked - now) end
local limit = tonumber(ARGV[1])
if limit == 0 then limit = tonumber(redis.call('GET', KEYS[3]) or '0') end
if limit == 0 then return 0 end
local burst = math.max(1, math.floor(limit / 60))
local gap = {WINDOW * 1000:.0f} / math.max(1, limit - burst + 1)
local due = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), now)
local wait = due - gap * (burst - 1) - now
if wait > 0 then return math.ceil(wait) end
redis.call('SET', KEYS[2], string.format('%.3f', due + gap), 'PX', 120000)
return 0
"""
"""Keys: blocked, due, limit. Argument: the limit a minute, 0 if only the API knows it.

The generic cell rate algorithm. `burst` requests may come at once, and the distance is a little longer for it, so that
no window of `WINDOW` has more than the limit.
"""

BLOCK = """
local time = redis.call('TIME')
local till = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
if till > tonumber(redis.call('GET', KEYS[1]) or '0') then redis.call('SET', KEYS[1], till, 'PX', ARGV[1]) end
return 1
"""
"""Key: blocked. Argument: milliseconds."""
