-- Undo a booking, if nobody booked behind it.
-- KEYS: the quota. ARGV: weight, then interval of each rate and what was due after the booking.
local weight, rates = tonumber(ARGV[1]), (#ARGV - 1) / 2
local function field(i) return string.format("%.9g", ARGV[2 * i]) end -- as in reserve.lua
for i = 1, rates do
  if redis.call("HGET", KEYS[1], field(i)) ~= ARGV[1 + 2 * i] then return 0 end
end
for i = 1, rates do
  redis.call("HSET", KEYS[1], field(i), string.format("%.2f", ARGV[1 + 2 * i] - ARGV[2 * i] * weight))
end
return 1
