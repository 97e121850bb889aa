-- Take a slot of a bulkhead, or a place in its queue; ask again while queued. A slot is a lease: who dies with one gives
-- it back by no longer renewing it. Times in microseconds of this server.
-- KEYS: slots by token, queue by token, when each of the queue last asked, whether this token has left.
-- ARGV: now or "", token, limit, room in the queue, lease, after how long of silence somebody has left the queue.
-- Returns 1 taken, 2 queued, 0 full; slots in use, and the length of the queue.
local now = tonumber(ARGV[1])
if not now then local time = redis.call("TIME"); now = time[1] * 1000000 + time[2] end
local token, limit, room, lease, silence = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
redis.call("ZREMRANGEBYSCORE", KEYS[1], "-inf", now)
local function forget(each) redis.call("ZREM", KEYS[2], each); redis.call("ZREM", KEYS[3], each) end
while true do
  local head = redis.call("ZRANGE", KEYS[2], 0, 0)[1]
  local asked = head and redis.call("ZSCORE", KEYS[3], head)
  if not head or head == token or (asked and now - asked <= silence) then break end
  forget(head)
end
local used, length = redis.call("ZCARD", KEYS[1]), redis.call("ZCARD", KEYS[2])
if KEYS[4] and redis.call("DEL", KEYS[4]) == 1 then return {0, used, length} end
local rank = redis.call("ZRANK", KEYS[2], token)
local ttl = math.ceil(lease / 1000) * 2
if used + (rank or length) < limit then
  redis.call("ZADD", KEYS[1], now + lease, token)
  if rank then forget(token); length = length - 1 end
  redis.call("PEXPIRE", KEYS[1], ttl)
  return {1, used + 1, length}
end
if not rank then
  if length >= room then -- behind a head that lives others may be silent
    for _, each in ipairs(redis.call("ZRANGEBYSCORE", KEYS[3], "-inf", now - silence - 1)) do forget(each) end
    length = redis.call("ZCARD", KEYS[2])
    if length >= room then return {0, used, length} end
  end
  local last = redis.call("ZRANGE", KEYS[2], -1, -1, "WITHSCORES")[2]
  redis.call("ZADD", KEYS[2], (last or 0) + 1, token)
  length = length + 1
end
redis.call("ZADD", KEYS[3], now, token)
redis.call("PEXPIRE", KEYS[2], ttl)
redis.call("PEXPIRE", KEYS[3], ttl)
return {2, used, length}
