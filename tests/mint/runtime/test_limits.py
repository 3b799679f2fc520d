"""Token buckets."""

from __future__ import annotations

from pennypost_mint.runtime.limits import TokenBucket


def test_bursts_then_the_rate() -> None:
    now = 100.0
    bucket = TokenBucket(rate=2, burst=3, clock=lambda: now)
    assert [bucket.take("a") for _ in range(4)] == [True, True, True, False]
    assert bucket.take("b")
    now += 0.5
    assert [bucket.take("a") for _ in range(2)] == [True, False]
    now += 100
    assert [bucket.take("a") for _ in range(4)] == [True, True, True, False]


def test_a_refusal_costs_nothing_and_a_dear_request_waits_longer() -> None:
    now = 0.0
    bucket = TokenBucket(rate=1, burst=10, clock=lambda: now)
    assert bucket.take("a", 8)
    assert not bucket.take("a", 5)
    assert bucket.take("a", 2)
    now += 5
    assert bucket.take("a", 5)


def test_memory_is_bounded() -> None:
    bucket = TokenBucket(rate=1, burst=1, clock=lambda: 0.0, keys=10)
    for key in range(1000):
        bucket.take(key)
    assert len(bucket._levels) == 10


def test_how_long_to_wait() -> None:
    now = 50.0
    bucket = TokenBucket(rate=2, burst=10, clock=lambda: now)
    assert bucket.wait("a", 10) == 0
    assert bucket.take("a", 10)
    assert bucket.wait("a", 4) == 2
    now += 1.5
    assert (bucket.wait("a", 4), bucket.take("a", 4)) == (0.5, False)
    now += 0.5
    assert (bucket.wait("a", 4), bucket.take("a", 4)) == (0, True)
