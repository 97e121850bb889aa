"""What a fired alert does: each action once in its cool-down, within its limits, on record with who asked."""

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from opero import ConfigurationError, events, opero, testing
from opero_slo.actions import Actions, Alert, ClearCache, ForceBreaker, Log, Rule, TurnKnob, Webhook


@pytest.fixture
def clock():
    with testing.clock() as virtual:
        yield virtual


def alert(**more):
    given = {"event": "opero.slo.alert_fired", "slo": "pay", "alert": "page-fast", "severity": "page", "at": 0.0}
    return Alert(**{**given, **more})


def settled(actions):
    actions.stop()
    return [(record.outcome, record.detail) for record in actions.audit]


def test_an_action_runs_once_in_its_cool_down(clock):
    ran = []
    actions = Actions([Rule(ran.append, cooldown=300)])
    for at in (0.0, 100.0, 299.0, 301.0):
        actions.hear(alert(at=at))
    actions.hear(alert(at=302.0, slo="other"))
    assert [outcome for outcome, _ in settled(actions)].count("cooling down") == 2
    assert [each.at for each in ran] == [0.0, 301.0, 302.0]


def test_rules_choose_by_event_severity_and_target():
    ran = []
    rules = [
        Rule(lambda a: ran.append("page"), severity="page"),
        Rule(lambda a: ran.append("on-call"), target="on-*"),
        Rule(lambda a: ran.append("resolved"), on="opero.slo.alert_resolved"),
        Rule(lambda a: ran.append("dry"), dry_run=True),
    ]
    actions = Actions(rules)
    actions.hear(alert(severity="ticket", targets=("on-call", "mail")))
    assert ("would run", "") in settled(actions)
    assert ran == ["on-call"]


def test_an_action_that_fails_is_a_record():
    def broken(_):
        raise RuntimeError("secret")

    told = []
    actions = Actions([Rule(broken), Rule(lambda _: "fine")], told.append)
    actions.hear(alert())
    assert settled(actions) == [("failed", "RuntimeError"), ("done", "fine")]
    assert [record.outcome for record in told] == ["failed", "done"]
    assert "secret" not in repr(actions.audit)


def test_a_breaker_is_forced_open_and_closed_again():
    function = opero(retries=0, circuit_breaker=True, name="act.breaker")(abs)
    other = opero(retries=0, name="act.plain")(abs)
    actions = Actions([Rule(ForceBreaker()), Rule(ForceBreaker("closed"), on="opero.slo.alert_resolved")])
    actions.hear(alert(operation="act.breaker"))
    assert settled(actions) == [("done", "act.breaker")]
    assert function.opero.breaker.state == "forced_open"
    actions.hear(alert(event="opero.slo.alert_resolved", operation="act.breaker"))
    actions.hear(alert(operation="act.plain", at=1000.0))
    assert settled(actions)[1:] == [("done", "act.breaker"), ("failed", "ConfigurationError")]
    assert (function.opero.breaker.state, other(-1)) == ("closed", 1)


def test_load_is_shed_by_turning_a_knob_within_its_bounds():
    function = opero(retries=0, bulkhead=20, name="act.knob")(abs)
    actions = Actions([Rule(TurnKnob("bulkhead.limit", factor=0.5), cooldown=0)])
    for _ in range(8):
        actions.hear(alert(operation="act.*"))
    settled(actions)
    assert function.opero.operation.places["bulkhead"].slots.limit.value == 1


def test_a_cache_is_emptied_also_of_a_coroutine_function_and_each_act_says_who(tmp_path):
    calls = []
    price = opero(cache_ttl=60, name="act.cache")(lambda sku: calls.append(sku) or sku)

    @opero(cache_ttl=60, name="act.cache.async")
    async def stock(sku):
        calls.append(sku)
        return sku

    said = []
    for _ in range(2):
        assert (price("a"), asyncio.run(stock("b"))) == ("a", "b")
    assert calls == ["a", "b"]
    actions = Actions([Rule(ClearCache("act.cache*")), Rule(ClearCache("act.plain"))])
    with events.subscribe(said.append, "opero.admin.acted"):
        actions.hear(alert())
        assert settled(actions) == [("done", "act.cache, act.cache.async"), ("failed", "ConfigurationError")]
    assert (price("a"), asyncio.run(stock("b"))) == ("a", "b")
    assert calls == ["a", "b", "a", "b"]
    assert {(e.fields["act"], e.fields["by"], e.operation) for e in said} == {
        ("clear_cache", "pay: page-fast", "act.cache"),
        ("clear_cache", "pay: page-fast", "act.cache.async"),
    }


@pytest.mark.parametrize(
    "make", [lambda: Webhook("file:///etc/passwd"), lambda: ForceBreaker("half"), lambda: TurnKnob("x")], ids=range(3)
)
def test_a_wrong_action_is_refused_when_it_is_made(make):
    with pytest.raises(ConfigurationError):
        make()


def test_a_webhook_posts_the_alert_and_keeps_its_secret():
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.headers["Authorization"], json.loads(body)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    hook = Webhook(f"http://127.0.0.1:{server.server_port}/", headers={"Authorization": "Bearer s3cret"})
    actions = Actions([Rule(hook), Rule(Log())])
    actions.hear(alert(burn_rate=20.0))
    assert settled(actions) == [("done", "HTTP 204"), ("done", "")]
    thread.join()
    server.server_close()
    assert got[0][0] == "Bearer s3cret"
    assert (got[0][1]["slo"], got[0][1]["burn_rate"]) == ("pay", 20.0)
    assert "s3cret" not in repr(hook) + repr(actions.audit)
