-- Renew the leases of slots still held. KEYS: slots by token. ARGV: lease in microseconds, then the tokens.
local time = redis.call("TIME")
local renewed = 0
for i = 2, #ARGV do
  if redis.call("ZSCORE", KEYS[1], ARGV[i]) then
    redis.call("ZADD", KEYS[1], time[1] * 1000000 + time[2] + ARGV[1], ARGV[i])
    renewed = renewed + 1
  end
end
redis.call("PEXPIRE", KEYS[1], math.ceil(ARGV[1] / 1000) * 2)
return renewed
