"""GCRA against the law it stands for, and against a token bucket."""

import pickle
import threading
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from opero import RateLimit
from opero.primitives.rate_limit import Bucket

STEPS = st.lists(st.integers(0, 30), min_size=1, max_size=80)  # eighths of a second: exact in binary


@given(STEPS, st.integers(1, 5))
def test_it_admits_what_a_token_bucket_admits(steps, burst):
    bucket, tokens, now = Bucket(1.0, burst), float(burst), 0.0
    for step in steps:
        now += step / 8
        tokens = min(burst, tokens + step / 8)
        admitted = bucket.book(now, 0.0)[1] is not None
        assert admitted == (tokens >= 1)
        tokens -= admitted


@given(STEPS, st.integers(1, 5))
def test_no_window_holds_more_than_the_burst_and_what_the_rate_adds(steps, burst):
    bucket, now, gone = Bucket(1.0, burst), 0.0, []
    for step in steps:
        now += step / 8
        delay, _ = bucket.book(now, inf)
        gone.append(now + delay)
    assert gone == sorted(gone)
    for first in range(len(gone)):
        for last in range(first, len(gone)):
            assert last - first + 1 <= burst + (gone[last] - gone[first])


def test_threads_together_get_no_more_than_there_is():
    bucket, got = Bucket(1.0, 50), []

    def take():
        for _ in range(50):
            if bucket.book(0.0, 0.0)[1] is not None:
                got.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 50


def test_a_place_is_given_back_unless_somebody_booked_behind_it():
    bucket = Bucket(1.0, 1)
    bucket.book(0.0, inf)
    _, due = bucket.book(0.0, inf)
    bucket.give_back(due)
    assert bucket.book(0.0, inf)[0] == 1.0
    _, earlier = bucket.book(0.0, inf)
    bucket.book(0.0, inf)
    bucket.give_back(earlier)
    assert bucket.book(0.0, inf)[0] == 4.0


def test_available_says_what_would_go_at_once():
    bucket = Bucket(0.1, 10)
    assert bucket.available(0.0) == 10
    for _ in range(10):
        bucket.book(0.0, 0.0)
    assert bucket.available(0.0) == 0
    assert bucket.available(0.35) == 3


def test_it_pickles_with_its_settings():
    policy = RateLimit(10, per=60, burst=2, wait=False)
    assert pickle.loads(pickle.dumps(policy)).settings == policy.settings
