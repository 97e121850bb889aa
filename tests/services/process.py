"""Real servers as child processes: on free loopback ports, ended by their own process object."""

import socket
import subprocess
import time


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def start(command, *, port, seconds=20, **options):
    """Start a server and wait until it listens."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    until = time.monotonic() + seconds
    while not listens(port):
        if process.poll() is not None or time.monotonic() > until:
            stop(process)
            raise RuntimeError(f"{command[0]} does not listen on port {port} (exit code {process.returncode})")
        time.sleep(0.02)
    return process


def stop(process):
    """End a process, by force if it does not by itself."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
