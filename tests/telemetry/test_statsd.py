"""StatsD lines, as a socket gets them."""

import re
import socket

import pytest

import opero as o
from opero_telemetry.reading import Reader
from opero_telemetry.statsd import StatsD

LINE = re.compile(r"^([A-Za-z0-9_.\-/]+):(-?[\d.e+\-]+)\|(c|g|ms|h)(\|@[\d.e\-]+)?(\|#.+)?$")


@pytest.fixture
def agent():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(0.3)
        yield listening


def received(agent):
    packets = []
    while True:
        try:
            packets.append(agent.recv(65536))
        except TimeoutError:
            assert all(len(packet) <= 1400 for packet in packets)
            return b"".join(packets).decode().splitlines()


def address(agent):
    return f"127.0.0.1:{agent.getsockname()[1]}"


def test_counters_are_differences_and_timings_carry_how_many(agent):
    failures = iter([OSError()])

    @o.opero(retries=1, min_delay=0, name="statsd.one")
    def f():
        for failure in failures:
            raise failure

    sender = StatsD(address(agent), Reader(), tags=True, interval=3600)
    sender.send()
    received(agent)
    for _ in range(10):
        f()
    sender.send()
    lines = [line for line in received(agent) if "opero.call.name:statsd.one" in line]
    assert all(LINE.match(line) for line in lines)
    scheduled = [line for line in lines if "opero.event.name:opero.retry.scheduled" in line]
    assert [line.split("|")[0] for line in scheduled] == ["opero.events:1"]
    durations = [line for line in lines if line.startswith("opero.call.duration:")]
    counts = [1 / float(re.search(r"@([\d.e\-]+)", line)[1]) for line in durations]
    assert round(sum(counts)) == 10
    sender.send()
    counters = [line for line in received(agent) if "|c" in line and "statsd.one" in line]
    assert counters == []
    sender.close()


def test_plain_statsd_puts_attributes_into_the_name(agent):
    o.opero(name="two|:#@\nlines")(lambda: 1)()
    sender = StatsD(address(agent), Reader(), interval=3600)
    sender.close()
    lines = received(agent)
    assert all(LINE.match(line) for line in lines)
    assert any(line.startswith("opero.call.active.two_____lines:0|g") for line in lines)


@pytest.mark.parametrize("wrong", ["127.0.0.1", ":", "host:port", ""])
def test_a_wrong_address_is_refused(wrong):
    with pytest.raises(o.ConfigurationError, match="statsd="):
        StatsD(wrong, Reader())
