-- Book a call on a quota, by the generic cell rate algorithm (opero/quota.py). Times in microseconds of this server.
-- KEYS: the quota. ARGV: now or "", patience, weight, calls to lease beside it, then interval and burst of each rate.
-- Returns whether it may go, after how long, how many calls are leased, all of which could go at once, and what is due
-- then: what give_back.lua must find unchanged.
local now = tonumber(ARGV[1])
if not now then local time = redis.call("TIME"); now = time[1] * 1000000 + time[2] end
now = now - 1750000000000000 -- of the middle of 2025: a smaller number has digits left for parts of a microsecond
local patience, weight, leased, rates = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), (#ARGV - 4) / 2
local fields, due, at = {}, {}, now
for i = 1, rates do fields[i] = i end
local held = redis.call("HMGET", KEYS[1], unpack(fields))
for i = 1, rates do
  due[i] = math.max(tonumber(held[i] or now), now)
  at = math.max(at, due[i] + ARGV[3 + 2 * i] * (weight - ARGV[4 + 2 * i]))
end
if at - now > patience + 1 then return {0, string.format("%.0f", at - now)} end
for i = 1, rates do
  local most = ARGV[4 + 2 * i] - weight - (math.max(due[i], at) - now) / ARGV[3 + 2 * i]
  leased = math.max(0, math.min(leased, math.floor(most)))
end
local answer, last = {1, string.format("%.0f", at - now), leased}, now
for i = 1, rates do
  local after = math.max(due[i], at) + ARGV[3 + 2 * i] * (weight + leased)
  answer[i + 3] = string.format("%.2f", after)
  redis.call("HSET", KEYS[1], i, answer[i + 3])
  last = math.max(last, after)
end
redis.call("PEXPIRE", KEYS[1], math.ceil((last - now) / 1000) + 1000)
return answer
