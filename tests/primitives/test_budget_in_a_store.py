"""A retry budget whose tokens are in a store: who is told of what, and whose tokens are spent."""

import pytest

import opero as o
from opero import events, fused
from opero.primitives.retry_budget import UTILIZATION
from shared_store import MappedStore, opened


class Store(MappedStore):
    """A store that remembers how many successes it was told of."""

    def __init__(self):
        super().__init__()
        self.told = []

    async def pay(self, runtime, key, law, income, *others):
        self.told.append(income)
        return await super().pay(runtime, key, law, income, *others)


@pytest.fixture
def store():
    with opened(Store) as store:
        yield store


def retries(budget, calls):
    """Return how many retries the budget pays for."""
    made = []

    @o.opero(o.Retry(1, wait=0, budget=budget))
    def f():
        made.append(1)
        raise OSError

    for _ in range(calls):
        with pytest.raises(OSError):
            f()
    return len(made) - calls


@pytest.mark.parametrize("by", ["setting", "share"])
def test_budgets_of_one_name_have_the_same_tokens(store, by):
    settings = {"min_per_second": 0, "cap": 5}
    if by == "setting":
        budgets = [o.RetryBudget(**settings, store=store, name=name) for name in ("a", "a", "b")]
    else:
        budgets = [o.RetryBudget(**settings) for _ in range(3)]
        for budget, name in zip(budgets, ("a", "a", "b"), strict=True):
            budget.share(store, name)
    assert [retries(budget, 3) for budget in budgets] == [3, 2, 3]
    observed = [{metric: value for metric, _, value in budget.observe(store.time.now())} for budget in budgets]
    assert [seen[UTILIZATION] for seen in observed] == pytest.approx([1.0, 1.0, 0.6])  # as they are now, not as heard


@pytest.mark.parametrize("fast", [True, False])
def test_the_store_is_told_of_every_hundred_successes_without_being_asked(store, fast, monkeypatch):
    monkeypatch.setattr(fused, "enabled", fast)
    budget = o.RetryBudget(store=store, name="a")

    @o.opero(budget, o.Retry(1))
    def f():
        return 1

    for _ in range(99):
        f()
    store.time.sleep(2)
    assert store.told == []
    f()
    store.time.sleep(2)
    assert store.told == [100]


def test_a_budget_of_this_process_tells_nobody(store):
    budget, heard = o.RetryBudget(), []

    @o.opero(budget, o.Retry(1))
    def f():
        return 1

    with events.subscribe(heard.append, "opero.call.finished"):
        for _ in range(150):
            f()
    assert (len(heard), budget.tokens.funding) == (150, [150])
