"""The live page in a real browser: what it shows, what it does, and that it asks nobody else.

Screenshots are kept in `OPERO_SCREENSHOTS`, where that names a folder.
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import opero as o
import opero_telemetry

TOKEN = "0123456789abcdef"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
chromium = pytest.mark.service("chromium")


@pytest.fixture
def telemetry(tmp_path):
    handle = opero_telemetry.start(0, logs=None, token=TOKEN, audit_file=str(tmp_path / "audit.log"))
    yield handle
    handle.stop()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, telemetry):
    """Open the page; every console line, error and outside request is a failure."""
    contexts, complaints = [], []

    def open_page(path="/", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda line: complaints.append(line.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _local(request.url, telemetry.url) or complaints.append(request.url))
        page.goto(f"{telemetry.url}{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _local(url, home):
    return url.startswith((f"{home}/", "data:"))


def keep(page, name):
    if folder := os.environ.get("OPERO_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.fixture
def pay(request):
    name = f"shop.pay {request.node.name}"

    @o.opero(retries=1, min_delay=0, circuit_breaker=True, bulkhead=3, name=name)
    def pay(fails=False):
        if fails:
            raise ConnectionError

    for n in range(30):
        try:
            pay(n % 10 == 0)
        except ConnectionError:
            continue
    return pay


@chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_shows_what_happens_as_it_happens(visit, pay, scheme):
    page = visit(color_scheme=scheme)
    row = page.locator(".row", has_text=pay.opero.name)
    row.wait_for()
    assert page.locator("#live.on").inner_text() == "live"
    row.click()
    page.get_by_text("Durations, last minute").wait_for()
    for _ in range(20):
        pay()
    pay.opero.breaker.force_open()
    row.get_by_text("forced open").wait_for()
    page.locator("#log").get_by_text("circuit opened").first.wait_for()
    row.get_by_text("50 calls").wait_for()
    keep(page, f"console-{scheme}")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(14, 20, 19)") == (scheme == "dark")


@chromium
def test_it_fits_a_phone(visit, pay):
    page = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    page.locator(".row", has_text=pay.opero.name).tap()
    page.get_by_text("Durations, last minute").wait_for()
    keep(page, "console-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@chromium
def test_it_is_used_by_keyboard(visit, pay):
    o.opero(name="other.thing")(lambda: 1)()
    page = visit()
    page.locator(".row", has_text=pay.opero.name).wait_for()
    page.keyboard.press("/")
    page.keyboard.type(pay.opero.name[:12])
    page.locator(".row", has_text="other.thing").wait_for(state="detached")
    page.keyboard.press("Escape")
    page.locator(".row", has_text="other.thing").wait_for()
    page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.querySelector('.name').firstChild.textContent")
    assert focused
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.keyboard.press("p")
    assert page.locator("#live").inner_text() == "paused"
    page.keyboard.press("?")
    assert page.locator("#keys").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#keys").is_visible()


@chromium
def test_with_the_token_it_acts_and_each_act_is_audited(visit, pay, telemetry, tmp_path):
    page = visit()
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator(".row", has_text=pay.opero.name).click()
    assert page.get_by_text("Force open").count() == 0
    page.get_by_role("button", name="Unlock").click()
    page.locator("#token").fill(TOKEN)
    page.locator("#lock button", has_text="Unlock").click()
    page.get_by_role("button", name="Force open").click()
    page.locator(".row", has_text=pay.opero.name).get_by_text("forced open").wait_for()
    assert pay.opero.breaker.state == "forced_open"
    keep(page, "console-unlocked")
    page.get_by_role("button", name="Force closed").click()
    page.locator(".row", has_text=pay.opero.name).get_by_text("closed", exact=True).wait_for()
    (opened, closed) = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(entry["act"], entry["by"], entry["operation"]) for entry in (opened, closed)] == [
        ("force_open", "console", pay.opero.name),
        ("force_close", "console", pay.opero.name),
    ]


@chromium
def test_names_are_text_and_nothing_else(visit):
    name = "<img src=x onerror=alert(1)>&amp;\u202e"
    o.opero(retries=0, fallback=0, name=name)(lambda: 1 / 0)()
    page = visit()
    page.locator(".row", has_text="onerror").wait_for()
    assert page.locator("img").count() == 0


@chromium
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/state"])
def test_every_other_page_opens_in_a_browser(visit, pay, path):
    page = visit(path)
    assert page.locator("body").inner_text()
    keep(page, f"page-{path.strip('/')}")


def ask(telemetry, body, token=TOKEN, method="POST"):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"{telemetry.url}/act", data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_only_a_post_with_the_token_acts(telemetry, pay):
    body = json.dumps({"act": "force_open", "operation": pay.opero.name}).encode()
    assert ask(telemetry, body, token=None) == 401
    assert ask(telemetry, body, token="0123456789abcdeg") == 401
    assert ask(telemetry, None, method="GET") == 401
    assert pay.opero.breaker.state == "closed"
    assert ask(telemetry, body) == 200
    assert pay.opero.breaker.state == "forced_open"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("", 400),
        ("[]", 400),
        ('{"act": "__class__", "operation": "NAME"}', 400),
        ('{"act": "force_open", "operation": "nobody"}', 404),
        ('{"act": "clear_cache", "operation": "NAME"}', 409),
    ],
    ids=["empty", "list", "unknown", "nobody", "no-cache"],
)
def test_an_act_that_cannot_be_says_why(telemetry, pay, body, status):
    assert ask(telemetry, body.replace("NAME", pay.opero.name).encode()) == status


def test_without_a_token_nothing_acts_whoever_asks():
    handle = opero_telemetry.start(0, logs=None)
    try:
        assert ask(handle, b'{"act": "force_open", "operation": "shop.pay"}', token="") == 401
    finally:
        handle.stop()


def test_the_page_allows_itself_nothing_it_does_not_need(telemetry):
    with urllib.request.urlopen(telemetry.url, timeout=10) as answer:
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
