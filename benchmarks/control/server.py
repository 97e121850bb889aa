"""An HTTP server with a capacity, and an outage: `python -m benchmarks.control.server WORKERS SECONDS`.

Requests wait in one line for one of so many workers, which holds each for so long; nobody looks whether who asked is
still there: as most servers. `/down` stops the workers, `/up` lets them go on, `/` is work. Tells its port on stdout.
"""

from __future__ import annotations

import asyncio
import os
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """One line, some workers."""

    def __init__(self, workers: int, seconds: float) -> None:
        self._line: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self._up = asyncio.Event()
        self._up.set()
        self._workers, self._seconds = workers, seconds

    async def run(self) -> None:
        """Serve until the end of standard input."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        await asyncio.to_thread(sys.stdin.read)
        assert not any(task.done() for task in tasks)
        os._exit(0)  # nobody is to hear of the requests in line

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                while (await reader.readline()).strip():
                    pass
                await self._answer(line.split()[1])
                writer.write(ANSWER)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: bytes) -> None:
        if path == b"/":
            done = asyncio.get_running_loop().create_future()
            self._line.put_nowait(done)
            await done
        else:
            self._up.set() if path == b"/up" else self._up.clear()

    async def _work(self) -> None:
        while True:
            waiting = await self._line.get()
            await self._up.wait()
            await asyncio.sleep(self._seconds)  # also for one that nobody waits for any more
            if not waiting.done():
                waiting.set_result(None)


if __name__ == "__main__":
    asyncio.run(Server(int(sys.argv[1]), float(sys.argv[2])).run())
