-- Tell a circuit how a call ended (opero/circuit.py).
-- KEYS: the circuit, the ring of its last calls. ARGV: now or "", generation, probe, outcome, slow, a random number,
-- then the rules: failure_ratio, min_calls, window, calls or 0, consecutive or 0, slow_ratio or 0, reset_after,
-- max_reset_after, jitter, probes, time to live. Times in microseconds.
-- Returns the new state or "", failure ratio, slow ratio, calls, and the pause.
local now = tonumber(ARGV[1])
if not now then local time = redis.call("TIME"); now = time[1] * 1000000 + time[2] end
local outcome, slow, draw = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local failure_ratio, min_calls, window, calls = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local consecutive, slow_ratio, reset_after = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local max_reset_after, jitter, probes, ttl = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16]), tonumber(ARGV[17])
local SLICES, unchanged = 10, {"", "0", "0", 0, "0"}

local circuit, flat = {}, redis.call("HGETALL", KEYS[1])
for i = 1, #flat, 2 do circuit[flat[i]] = flat[i + 1] end
local generation = tonumber(circuit.generation or 0)
if tonumber(ARGV[2]) ~= generation then return unchanged end
local failed = outcome == "failure" and 1 or 0

local function set(...) redis.call("HSET", KEYS[1], ...) end

local function totals()
  local all, failures, slows = 0, 0, 0
  if calls > 0 then
    for _, each in ipairs(redis.call("LRANGE", KEYS[2], 0, -1)) do
      all, failures, slows = all + 1, failures + math.floor(each / 2), slows + each % 2
    end
    return all, failures, slows
  end
  local number = math.floor(now * SLICES / window)
  for i = 0, SLICES - 1 do
    if tonumber(circuit["n" .. i] or -SLICES) > number - SLICES then
      all, failures, slows = all + circuit["c" .. i], failures + circuit["f" .. i], slows + circuit["s" .. i]
    end
  end
  return all, failures, slows
end

local function change(state)
  local all, failures, slows = totals()
  local opened, pause = tonumber(circuit.opened or 0), 0
  if state == "open" then
    pause = math.min(reset_after * 2 ^ math.min(opened, 60), max_reset_after)
    if opened > 0 then pause = pause * (1 - jitter * draw) end
    opened = opened + 1
  else
    opened = 0
    redis.call("DEL", KEYS[2])
    for i = 0, SLICES - 1 do redis.call("HDEL", KEYS[1], "n" .. i, "c" .. i, "f" .. i, "s" .. i) end
  end
  set("state", state, "generation", generation + 1, "since", string.format("%.0f", now),
    "pause", string.format("%.0f", pause), "opened", opened, "row", 0, "out", 0, "good", 0, "bad", 0)
  redis.call("PEXPIRE", KEYS[1], ttl)
  local share = all > 0 and all or 1
  return {state, tostring(failures / share), tostring(slows / share), all, string.format("%.0f", pause)}
end

if ARGV[3] == "1" then
  set("out", circuit.out - 1)
  if outcome == "none" then return unchanged end
  local bad = (failed == 1 or slow == 1) and 1 or 0
  circuit.good, circuit.bad = circuit.good + 1 - bad, circuit.bad + bad
  set("good", circuit.good, "bad", circuit.bad)
  local ratio = consecutive > 0 and 1 / probes or failure_ratio
  if circuit.bad / probes >= ratio then return change("open") end
  if (probes - circuit.good) / probes < ratio then return change("closed") end
  return unchanged
end

if outcome == "none" then return unchanged end
if calls > 0 then
  redis.call("LPUSH", KEYS[2], failed * 2 + slow)
  redis.call("LTRIM", KEYS[2], 0, calls - 1)
  redis.call("PEXPIRE", KEYS[2], ttl)
else
  local number = math.floor(now * SLICES / window)
  local i = number % SLICES
  if tonumber(circuit["n" .. i] or -1) ~= number then
    circuit["n" .. i], circuit["c" .. i], circuit["f" .. i], circuit["s" .. i] = number, 0, 0, 0
  end
  for field, by in pairs({c = 1, f = failed, s = slow}) do circuit[field .. i] = circuit[field .. i] + by end
  set("n" .. i, string.format("%.0f", number), "c" .. i, circuit["c" .. i], "f" .. i, circuit["f" .. i], "s" .. i, circuit["s" .. i])
end
local row = failed == 1 and (circuit.row or 0) + 1 or 0
set("row", row)
if circuit.mode and circuit.mode ~= "auto" then return unchanged end
redis.call("PEXPIRE", KEYS[1], ttl)
local all, failures, slows = totals()
local tripped
if consecutive > 0 then tripped = failed == 1 and row >= consecutive
else tripped = all >= min_calls and failures / all >= failure_ratio end
if slow_ratio > 0 and all >= min_calls and slows / all >= slow_ratio then tripped = true end
return tripped and change("open") or unchanged
