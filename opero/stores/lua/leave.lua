-- Give a slot back, or leave the queue. Who has neither yet was cancelled while it asked: it shall not get one later.
-- KEYS: as take.lua. ARGV: the token.
redis.call("ZREM", KEYS[3], ARGV[1])
local had = redis.call("ZREM", KEYS[1], ARGV[1]) + redis.call("ZREM", KEYS[2], ARGV[1])
if had == 0 and KEYS[4] then redis.call("SET", KEYS[4], "", "PX", 10000) end
return had
