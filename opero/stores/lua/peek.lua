-- Say how a quota stands, as reserve.lua would answer now. Nothing is written.
-- KEYS: the quota. ARGV: now or "", weight, then interval and burst of each rate.
-- Returns how many calls would go at once, and after how long one of this weight.
local now = tonumber(ARGV[1])
if not now then local time = redis.call("TIME"); now = time[1] * 1000000 + time[2] end
now = now - 1750000000000000 -- as in reserve.lua, and so are the fields
local weight, rates = tonumber(ARGV[2]), (#ARGV - 2) / 2
local held, at, left = {}, now, math.huge
local flat = redis.call("HGETALL", KEYS[1])
for i = 1, #flat, 2 do held[flat[i]] = math.max(now, flat[i + 1]) end
for i = 1, rates do
  local interval, burst = tonumber(ARGV[1 + 2 * i]), tonumber(ARGV[2 + 2 * i])
  local due = held[string.format("%.9g", interval)] or now
  at = math.max(at, due + interval * (weight - burst))
  left = math.min(left, burst, burst - (due - now - 1) / interval)
end
local wait = at - now > 1 and at - now or 0
return {string.format("%.0f", math.max(0, math.floor(left))), string.format("%.0f", wait)}
