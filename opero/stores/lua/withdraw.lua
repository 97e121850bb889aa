-- Take a question back whose asker was cancelled: the probe that it was given, or is given later.
-- KEYS: as admit.lua.
local given = redis.call("GET", KEYS[2])
redis.call("SET", KEYS[2], "", "PX", 10000)
if not given or given ~= redis.call("HGET", KEYS[1], "generation") then return 0 end
return redis.call("HINCRBY", KEYS[1], "out", -1)
