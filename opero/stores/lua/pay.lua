-- Pay from a retry budget (opero/tokens.py).
-- KEYS: the budget. ARGV: now or "", tokens a success, tokens a second, most, successes, tokens given back, cost.
-- Returns whether there were enough, and the share that is spent.
local now = tonumber(ARGV[1])
if not now then local time = redis.call("TIME"); now = time[1] * 1000000 + time[2] end
local ratio, trickle, most = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local count, back, cost = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local held = redis.call("HMGET", KEYS[1], "left", "successes", "since")
local passed = math.max(0, now - (held[3] or now)) / 1000000
local faded = math.exp(-passed / 10)
local spread = passed > 0 and 10 * (1 - faded) / passed or 1
local successes = (held[2] or 0) * faded + count * spread
local cap = math.min(most, math.max(10, ratio * successes))
local left = math.min(cap, (held[1] or math.min(10, most)) + ratio * count + trickle * passed + back)
local went = left + 0.000000001 >= cost and 1 or 0
left = left - cost * went
redis.call("HSET", KEYS[1], "left", string.format("%.17g", left), "successes", string.format("%.17g", successes),
  "since", string.format("%.0f", now))
local full = trickle > 0 and math.min(10 / trickle, 86400) or 86400 -- seconds; forgotten, it would begin with ten tokens
redis.call("PEXPIRE", KEYS[1], math.ceil((full + 100) * 1000))
return {went, string.format("%.6f", math.min(1, math.max(0, 1 - left / cap)))}
