-- Ask a circuit for leave to call (opero/circuit.py).
-- KEYS: the circuit, this question (withdraw.lua). ARGV: now or "", probes, microseconds after which probes are lost,
-- time to live in milliseconds.
-- Returns whether it passes (1), the generation, whether it is a probe, microseconds until it is worth asking again
-- (-1: nobody knows), the state, and whether the state has changed.
local now = tonumber(ARGV[1])
if not now then local time = redis.call("TIME"); now = time[1] * 1000000 + time[2] end
local held = redis.call("HMGET", KEYS[1], "state", "generation", "since", "pause", "out", "good", "bad", "mode", "probed",
  "ttl")
local state, generation = held[1] or "closed", tonumber(held[2] or 0)
if held[8] == "disabled" then return {1, -1, 0, 0, state, 0} end
if state == "closed" then return {1, generation, 0, 0, state, 0} end
if state == "forced_open" then return {0, generation, 0, -1, state, 0} end
if redis.call("GET", KEYS[2]) then return {0, generation, 0, -1, state, 0} end
local out, given = tonumber(held[5]), held[5] + held[6] + held[7]
local changed = 0
if state == "open" or given >= tonumber(ARGV[2]) then
  local left = held[3] + held[4] - now
  if state == "half_open" then left = (held[9] or held[3]) + ARGV[3] - now end
  if left > 0 then return {0, generation, 0, string.format("%.0f", math.min(left, held[4])), state, 0} end
  state, generation, changed, out = "half_open", generation + 1, 1, 0
  redis.call("HSET", KEYS[1], "state", state, "generation", generation, "since", string.format("%.0f", now),
    "good", 0, "bad", 0)
end
redis.call("SET", KEYS[2], generation, "PX", 10000)
redis.call("HSET", KEYS[1], "out", out + 1, "probed", string.format("%.0f", now))
redis.call("PEXPIRE", KEYS[1], math.max(ARGV[4], held[10] or 0))
return {1, generation, 1, 0, state, changed}
