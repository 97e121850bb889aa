-- Renew the leases of slots still held. One that is not there was lost by this server, or ran out: it is held all the
-- same, and counts again.
-- KEYS: slots by token. ARGV: lease in microseconds, then the tokens.
local time = redis.call("TIME")
for i = 2, #ARGV do redis.call("ZADD", KEYS[1], time[1] * 1000000 + time[2] + ARGV[1], ARGV[i]) end
return redis.call("PEXPIRE", KEYS[1], math.ceil(ARGV[1] / 1000) * 2)
