-- Undo a booking, if nobody booked behind it.
-- KEYS: the quota. ARGV: weight, then interval of each rate and what was due after the booking.
local weight, rates = tonumber(ARGV[1]), (#ARGV - 1) / 2
for i = 1, rates do
  if redis.call("HGET", KEYS[1], i) ~= ARGV[1 + 2 * i] then return 0 end
end
for i = 1, rates do
  redis.call("HSET", KEYS[1], i, string.format("%.2f", ARGV[1 + 2 * i] - ARGV[2 * i] * weight))
end
return 1
