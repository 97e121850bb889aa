-- Whether scripts may run and write, in a hash as all the others. KEYS: a key of nobody's.
redis.call("TIME")
redis.call("HSET", KEYS[1], "at", 1)
return redis.call("PEXPIRE", KEYS[1], 10000)
