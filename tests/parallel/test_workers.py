"""What workers are made of: their state, life, constants, deadline and correlation."""

import random

import pytest
import work

import opero as o
from opero import opmap


def test_a_worker_is_made_ready_once_and_ends_after_its_lifespan():
    pids = work.mortal(range(20))
    assert max(pids.count(pid) for pid in set(pids)) <= 3
    assert len(set(pids)) >= 7


def test_a_worker_that_grew_too_large_is_replaced():
    pids = work.hungry([200_000_000, 1, 1])
    assert pids[0] != pids[1] == pids[2]


def test_constants_travel_once_and_arrive_by_name():
    assert work.looked_up([5, 99_999] * 50) == [5, 99_999] * 50
    assert opmap(mode="thread", constants={"table": "xyz"})(lambda n, table: table[n])([2, 0]) == ["z", "x"]
    with pytest.raises(o.ConfigurationError, match="with table by name"):
        opmap(constants={"table": 1})(work.letter)


def test_lambdas_and_closures_travel_by_cloudpickle():
    secret = random.random()
    function = opmap(mode="process", workers=1, start_method="forkserver", name="features.closure")(
        lambda x: x + secret
    )
    assert function([1, 2]) == [1 + secret, 2 + secret]


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_items_run_under_the_correlation_id_of_their_map(mode):
    function = opmap(mode=mode, workers=2, name=f"features.seen.{mode}")(work.seen.opero.operation.function)
    with o.correlation_id("req-7"):
        assert function(range(5)) == ["req-7"] * 5
    assert set(function(range(5))) == {""}


@pytest.mark.parametrize(
    ("setting", "mode", "text"),
    [
        ({"item_timeout": 1.0}, "dask", "attempt_timeout="),
        ({"worker_exit": print}, "dask", "WorkerPlugin"),
        ({"worker_memory": 1 << 30}, "dask", "--memory-limit"),
        ({"worker_lifespan": 9}, "dask", "--lifetime"),
        ({"worker_init": print}, "thread", "mode='process'"),
        ({"worker_init": print}, "auto", "mode='process'"),
        ({"cluster": "tcp://127.0.0.1:1"}, "process", "mode='dask'"),
    ],
)
def test_a_setting_that_does_nothing_in_a_mode_is_refused(setting, mode, text):
    with pytest.raises(o.ConfigurationError, match=text):
        opmap(mode=mode, **setting)(work.plain)


def test_a_keyword_that_there_is_not_names_the_one_of_maps_that_was_meant():
    with pytest.raises(
        o.ConfigurationError, match=r"no such keyword; perhaps workers .*was meant; there are .*, batch_size,"
    ):
        opmap(mode="process", worker=3)


class Shop:
    def price(self, x):
        return x * 2

    @classmethod
    def name(cls, x):
        return x


@pytest.mark.parametrize("mode", ["thread", "process"])
def test_a_method_is_mapped_bound_and_said_so_elsewhere(mode):
    with pytest.raises(o.ConfigurationError, match=r"opmap\(object.method\)"):
        opmap(mode=mode)(Shop.price)
    with pytest.raises(o.ConfigurationError, match=r"opmap\(Class.method\)"):
        opmap(mode=mode)(vars(Shop)["name"])
    for bound in (Shop().price, Shop.name):
        assert opmap(mode=mode, workers=1)(bound)([1, 2]) == [bound(1), bound(2)]
