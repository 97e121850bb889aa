-- Hold a circuit open or closed, disable it, or let it run by itself again with an empty window.
-- KEYS: the circuit, the ring of its last calls. ARGV: the mode, time to live in milliseconds of one that is not held.
-- Returns the new state, or "" if it stays the same.
local state = ARGV[1] == "forced_open" and "forced_open" or "closed"
local held = redis.call("HMGET", KEYS[1], "state", "generation")
redis.call("DEL", KEYS[1], KEYS[2])
redis.call("HSET", KEYS[1], "state", state, "generation", (held[2] or 0) + 1, "mode", ARGV[1],
  "out", 0, "good", 0, "bad", 0, "since", 0, "pause", 0)
if ARGV[1] == "auto" then redis.call("PEXPIRE", KEYS[1], ARGV[2]) end
return (held[1] or "closed") == state and "" or state
