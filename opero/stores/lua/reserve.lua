-- Book a call on a quota, by the generic cell rate algorithm (opero/quota.py). Times in microseconds of this server.
-- KEYS: the quota. ARGV: now or "", patience, weight, calls to lease beside it, then interval and burst of each rate.
-- Returns whether it may go, after how long, how many calls are leased, all of which could go at once, and what is due
-- then: what give_back.lua must find unchanged.
-- A rate is known by its interval: others may have booked on this quota by other rates, and what is due by them stays.
local now = tonumber(ARGV[1])
if not now then local time = redis.call("TIME"); now = time[1] * 1000000 + time[2] end
now = now - 1750000000000000 -- of the middle of 2025: a smaller number has digits left for parts of a microsecond
local patience, weight, leased, rates = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), (#ARGV - 4) / 2
local held, due, at, last = {}, {}, now, now
local flat = redis.call("HGETALL", KEYS[1])
for i = 1, #flat, 2 do
  held[flat[i]] = flat[i + 1]
  last = math.max(last, flat[i + 1])
end
for i = 1, rates do
  due[i] = math.max(held[string.format("%.9g", ARGV[3 + 2 * i])] or now, now)
  at = math.max(at, due[i] + ARGV[3 + 2 * i] * (weight - ARGV[4 + 2 * i]))
end
if at - now > patience + 1 then return {0, string.format("%.0f", at - now)} end
for i = 1, rates do
  local most = ARGV[4 + 2 * i] - weight - (math.max(due[i], at) - now) / ARGV[3 + 2 * i]
  leased = math.max(0, math.min(leased, math.floor(most)))
end
local answer = {1, string.format("%.0f", at - now), leased}
for i = 1, rates do
  local after = math.max(due[i], at) + ARGV[3 + 2 * i] * (weight + leased)
  answer[i + 3] = string.format("%.2f", after)
  redis.call("HSET", KEYS[1], string.format("%.9g", ARGV[3 + 2 * i]), answer[i + 3])
  last = math.max(last, after)
end
redis.call("PEXPIRE", KEYS[1], math.min(1e12, math.ceil((last - now) / 1000) + 1000)) -- 30 years: it takes no more
return answer
