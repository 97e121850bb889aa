-- Give a slot back, or leave the queue. KEYS: as take.lua. ARGV: the token.
redis.call("HDEL", KEYS[3], ARGV[1])
return redis.call("ZREM", KEYS[1], ARGV[1]) + redis.call("ZREM", KEYS[2], ARGV[1])
