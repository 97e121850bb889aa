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
ttl = math.max(ttl, circuit.ttl or 0) -- others may have longer windows
local failed = outcome == "failure" and 1 or 0

local function set(...) redis.call("HSET", KEYS[1], ...) end

local function ring() -- what is counted of it, and counted anew if not all of it is: one of the two keys was evicted
  local all, failures, slows = redis.call("LLEN", KEYS[2]), tonumber(circuit.failures or 0), tonumber(circuit.slows or 0)
  if all == tonumber(circuit.all or 0) then return all, failures, slows end
  failures, slows = 0, 0
  for _, each in ipairs(redis.call("LRANGE", KEYS[2], 0, -1)) do
    failures, slows = failures + math.floor(each / 2), slows + each % 2
  end
  return all, failures, slows
end

local function add_to_ring()
  local all, failures, slows = ring()
  redis.call("LPUSH", KEYS[2], failed * 2 + slow)
  failures, slows = failures + failed, slows + slow
  for _, each in ipairs(redis.call("LRANGE", KEYS[2], calls, -1)) do
    failures, slows = failures - math.floor(each / 2), slows - each % 2
  end
  redis.call("LTRIM", KEYS[2], 0, calls - 1)
  redis.call("PEXPIRE", KEYS[2], ttl)
  circuit.all, circuit.failures, circuit.slows = math.min(all + 1, calls), failures, slows
  set("all", circuit.all, "failures", failures, "slows", slows)
end

local function slice(number) -- its field, and number, calls, failures and slow calls; each window has its own
  local field = string.format("%.9g/%d", window, number % SLICES)
  return field, string.match(circuit[field] or "-1 0 0 0", "^(%S+) (%S+) (%S+) (%S+)$")
end

local function add_to_slices()
  local number = math.floor(now * SLICES / window)
  local field, held, all, failures, slows = slice(number)
  if tonumber(held) ~= number then all, failures, slows = 0, 0, 0 end
  circuit[field] = string.format("%.0f %d %d %d", number, all + 1, failures + failed, slows + slow)
  set(field, circuit[field])
end

local function totals()
  if calls > 0 then return ring() end
  local number, all, failures, slows = math.floor(now * SLICES / window), 0, 0, 0
  for i = 0, SLICES - 1 do
    local _, held, a, f, s = slice(i)
    if held + SLICES > number then all, failures, slows = all + a, failures + f, slows + s end
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
    redis.call("HDEL", KEYS[1], "all", "failures", "slows")
    for field in pairs(circuit) do if string.find(field, "/") then redis.call("HDEL", KEYS[1], field) end end
  end
  set("state", state, "generation", generation + 1, "since", string.format("%.0f", now),
    "pause", string.format("%.0f", pause), "opened", opened, "row", 0, "out", 0, "good", 0, "bad", 0, "ttl", ttl)
  redis.call("PEXPIRE", KEYS[1], ttl)
  local share = all > 0 and all or 1
  return {state, tostring(failures / share), tostring(slows / share), all, string.format("%.0f", pause)}
end

if ARGV[3] == "1" then
  set("out", math.max(circuit.out - 1, 0))
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
if calls > 0 then add_to_ring() else add_to_slices() end
local row = failed == 1 and (circuit.row or 0) + 1 or 0
set("row", row, "ttl", ttl)
if circuit.mode and circuit.mode ~= "auto" then return unchanged end
redis.call("PEXPIRE", KEYS[1], ttl)
if failed == 0 and slow == 0 then return unchanged end
local all, failures, slows = totals()
local tripped
if consecutive > 0 then tripped = failed == 1 and row >= consecutive
else tripped = all >= min_calls and failures / all >= failure_ratio end
if slow_ratio > 0 and all >= min_calls and slows / all >= slow_ratio then tripped = true end
return tripped and change("open") or unchanged
