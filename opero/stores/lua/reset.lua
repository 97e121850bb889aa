-- Forget what was booked on a quota. What is none stays, and is an error.
-- KEYS: the quota.
local flat = redis.call("HGETALL", KEYS[1])
for i = 2, #flat, 2 do math.max(0, flat[i]) end
return redis.call("DEL", KEYS[1])
