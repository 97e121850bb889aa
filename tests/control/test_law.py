import doctest

from opero.control import law


def test_a_wish_says_where_and_why_and_on_what():
    wish = law.Wish("bulkhead.limit", 12.0, "binding", {"p95": 0.08})
    assert (wish.parameter, wish.value, wish.reason, wish.inputs["p95"]) == ("bulkhead.limit", 12.0, "binding", 0.08)
    assert doctest.testmod(law).failed == 0
