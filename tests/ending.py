"""Calls that end: a change that makes one wait for ever fails its test, instead of keeping it."""

import threading

from opero import testing

PATIENCE = 5.0  # seconds


def ended(call):
    """Return what a call ends with, an error's type included, and after how many virtual seconds."""
    outcome = []

    def run():
        with testing.clock() as time:
            started = time.now()
            try:
                outcome.append(call())
            except Exception as error:
                outcome.append(type(error))
            outcome.append(time.now() - started)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it waits for ever"
    return outcome
