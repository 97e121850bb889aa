"""One of several processes that share a limit: calls as often as it is let, and says how often that was, and when."""

import json
import sys
import time

import opero as o


def main(url, seconds, lease=None):
    lost = []
    limit = o.RateLimit(100 if lease is None else 1000, lease=lease, store=url, name="shared", wait=0.5)

    @o.opero(limit)
    def call():
        return time.time()

    print("ready", flush=True)
    sys.stdin.readline()
    gone, failed, longest, until = [], [], 0.0, time.monotonic() + seconds
    began = time.time()
    with o.events.subscribe(lambda event: lost.append(event.name), "opero.store.*"):
        while time.monotonic() < until:
            started = time.monotonic()
            try:
                gone.append(call())
            except o.RateLimitedError:
                pass
            except Exception as error:
                failed.append(repr(error))
            longest = max(longest, time.monotonic() - started)
    print(json.dumps({"began": began, "gone": gone, "failed": failed, "longest": longest, "events": lost}))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:]))
