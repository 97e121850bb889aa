"""A circuit in a store, seen from the process: what it does when the store is away for a part of a call."""

import time

import pytest

import opero as o
from opero import CircuitBreaker, clock, events
from opero.circuit import OPEN
from shared_store import Reachable, comes_back, opened


@pytest.fixture
def store():
    with opened(Reachable) as store:
        yield store


def test_a_call_let_in_without_the_store_is_counted_without_it(store):
    policy = CircuitBreaker(min_calls=1, reset_after=60, store=store, name="shop")

    @o.opero(policy)
    def call():
        if store.down:
            comes_back(store)
            raise OSError

    call()
    store.down, heard = True, []
    with events.subscribe(lambda event: heard.append(event.name), "opero.store.*"), pytest.raises(OSError):
        call()
    assert heard == ["opero.store.lost", "opero.store.returned"]
    assert store.settled == ["success"]
    assert policy.circuit.state == OPEN  # that of this process
    call()  # by the store's, which heard of no failure
    assert store.settled == ["success", "success"]


def test_a_call_let_in_by_a_store_that_goes_away_is_counted_nowhere(store):
    policy = CircuitBreaker(min_calls=1, store=store, name="shop")

    @o.opero(policy)
    def call():
        store.down = True
        raise OSError

    with pytest.raises(OSError):
        call()
    assert store.settled == []
    assert policy.circuit.read(clock.now()) == ("closed", 0.0, 0.0)


def test_a_generator_left_in_the_middle_gives_its_probe_back(store):
    policy = CircuitBreaker(min_calls=1, half_open_probes=1, reset_after=5, store=store, name="shop")

    @o.opero(policy)
    def numbers(fails=False):
        if fails:
            raise OSError
        yield from range(3)

    with pytest.raises(OSError):
        next(numbers(fails=True))
    clock.sleep(5)
    for number in numbers():
        assert number == 0
        break
    until = time.monotonic() + 10  # in the background: a consumer that leaves waits for nobody
    while len(store.settled) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert store.settled == ["failure", "none"]
    assert list(numbers()) == [0, 1, 2]
    assert policy.state == "closed"


def test_circuits_of_one_name_are_one_and_of_another_name_another(store):
    def fail():
        raise OSError

    mine, too, other = (
        o.opero(CircuitBreaker(min_calls=1, store=store, name=name))(fail) for name in ("shop", "shop", "bank")
    )
    for function, error in ((mine, OSError), (too, o.CircuitOpenError), (other, OSError)):
        with pytest.raises(error):
            function()


def test_what_another_process_forces_open_is_known_from_the_next_call_on(store):
    mine, other = (o.opero(CircuitBreaker(store=store, name="shop"))(lambda: 1) for _ in range(2))
    mine()
    other.opero.breaker.force_open()
    with pytest.raises(o.CircuitOpenError):
        mine()
    assert [f.opero.breaker.mode for f in (mine, other)] == ["forced_open"] * 2
    mine.opero.breaker.reset()
    assert other() == 1
    assert [f.opero.breaker.mode for f in (mine, other)] == ["auto"] * 2
    other.opero.breaker.disable()
    assert other.opero.breaker.mode == "disabled"
