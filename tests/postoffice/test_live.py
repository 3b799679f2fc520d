"""Live subscriptions: the index against the slow obvious filter, and who gets what when."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.event import Event, event_json
from pennypost.protocol.filter import Filter, matches, parse_filter
from pennypost_mint.runtime.limits import HELD_LIVE
from pennypost_postoffice.live import Live, Subscription, Watch, _keys_of
from tests.postoffice.house import Author, House, wrap
from tests.support.relay import plain

KEYS = [f"{number:064x}" for number in range(1, 5)]
WORDS = ["a", "b", "", "x" * 100]


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Unsigned events over so few values that filters meet them."""
    tags = draw(
        st.lists(
            st.one_of(
                st.tuples(st.sampled_from(["e", "p"]), st.sampled_from(KEYS)),
                st.tuples(st.sampled_from(["t", "d", "tt"]), st.sampled_from(WORDS)),
                st.tuples(st.sampled_from(["t", "p"])),
            ),
            max_size=4,
        )
    )
    return Event(
        draw(st.sampled_from(KEYS)),
        draw(st.sampled_from(KEYS)),
        draw(st.integers(0, 6)),
        draw(st.sampled_from([0, 1, 4, 10_002])),
        [list(tag) for tag in tags],
        "",
        "0" * 128,
    )


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    """Filters over the same values."""
    conditions: dict[str, st.SearchStrategy[Any]] = {
        "ids": st.lists(st.sampled_from(KEYS), max_size=3),
        "authors": st.lists(st.sampled_from(KEYS), max_size=3),
        "kinds": st.lists(st.sampled_from([0, 1, 4, 10_002]), max_size=3),
        "since": st.integers(0, 6),
        "until": st.integers(0, 6),
        "#e": st.lists(st.sampled_from(KEYS), max_size=3),
        "#p": st.lists(st.sampled_from(KEYS), max_size=3),
        "#t": st.lists(st.sampled_from(WORDS), max_size=3),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(conditions)), max_size=4))
    return parse_filter({name: draw(conditions[name]) for name in sorted(chosen)})


@settings(max_examples=400, deadline=None)
@given(events(), filters())
def test_a_watch_agrees_with_the_filter(event: Event, wanted: Filter) -> None:
    watch = Watch(wanted)
    assert watch.admits(event) == matches(wanted, event)
    if watch.admits(event):
        assert set(watch.index_keys()) & set(_keys_of(event)), "the index would not find it"


class Ear:
    """A reader that keeps what it hears."""

    def __init__(self) -> None:
        self.authenticated: set[str] = set()
        self.heard: list[str] = []
        self.cut = False

    def send(self, text: str) -> None:
        self.heard.append(text)

    def cut_off(self) -> None:
        self.cut = True


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(filters(), min_size=1, max_size=3), max_size=6), st.lists(events(), max_size=6))
def test_the_index_finds_whoever_wants_it(wanted: list[list[Filter]], sent: list[Event]) -> None:
    live = Live()
    subscriptions = []
    for number, each in enumerate(wanted):
        subscription = Subscription(Ear(), str(number), tuple(each))
        subscription.caught_up(set())
        live.add(subscription)
        subscriptions.append(subscription)
    for event in sent:
        expected = [name for name, each in enumerate(wanted) if any(matches(one, event) for one in each)]
        before = [len(subscription.reader.heard) for subscription in subscriptions]  # type: ignore[attr-defined]
        assert live.publish(event, event_json(event)) == len(expected)
        after = [len(subscription.reader.heard) for subscription in subscriptions]  # type: ignore[attr-defined]
        assert [name for name, count in enumerate(after) if count > before[name]] == expected
    for subscription in subscriptions:
        live.remove(subscription)
    assert live._index == {}


def _heard(vt: bool, wanted: dict[str, Any], *, private: bool = False, authenticated: str = "") -> bool:
    event = wrap(KEYS[0], vt=vt)
    live, ear = Live(private), Ear()
    ear.authenticated = {authenticated}
    subscription = Subscription(ear, "x", (parse_filter(wanted | {"kinds": [1059]}),))
    subscription.caught_up(set())
    live.add(subscription)
    live.publish(event, event_json(event))
    return bool(ear.heard)


def test_wraps_without_view_tag_go_to_filters_that_name_the_receiver() -> None:
    assert _heard(True, {"#p": [KEYS[0]]})
    assert not _heard(False, {"#x": ["y"]})
    assert _heard(False, {"#p": [KEYS[0]]})
    assert not _heard(False, {"#p": [KEYS[0]]}, private=True)
    assert not _heard(False, {"#p": [KEYS[0]]}, private=True, authenticated=KEYS[1])
    assert _heard(False, {"#p": [KEYS[0]]}, private=True, authenticated=KEYS[0])
    assert _heard(True, {"#p": [KEYS[0]]}, private=True)


def test_wraps_are_heard_by_whoever_names_what_finds_them() -> None:
    """As of stored ones: by id, author or tag. Who wants every letter reads the header feed."""
    assert not _heard(True, {})
    assert not _heard(True, {"since": 0})
    assert _heard(True, {"#p": [KEYS[0], KEYS[1]]})
    assert not _heard(True, {"#p": [KEYS[1]]})


def test_what_comes_while_stored_events_are_sent() -> None:
    """It follows EOSE; what was sent as stored does not come again, then or later."""
    ear = Ear()
    subscription = Subscription(ear, "x", (Filter(),))
    for identifier in ("a", "b"):
        subscription.deliver(identifier, f'"{identifier}"')
    assert ear.heard == []
    subscription.caught_up({"a", "c", "d"})
    assert ear.heard == ['["EVENT","x","b"]']
    for identifier in ("c", "c", "e"):
        subscription.deliver(identifier, f'"{identifier}"')
    assert ear.heard == ['["EVENT","x","b"]', '["EVENT","x","c"]', '["EVENT","x","e"]']
    subscription.settled()
    subscription.deliver("d", '"d"')
    assert ear.heard[-1] == '["EVENT","x","d"]'


def test_too_much_to_hold() -> None:
    ear = Ear()
    subscription = Subscription(ear, "x", (Filter(),))
    for number in range(HELD_LIVE + 1):
        subscription.deliver(str(number), "{}")
    assert ear.cut


async def test_everyone_hears_once(house: House) -> None:
    """Stored ones, EOSE, then new ones; a filter that matches twice does not make two."""
    author = Author()
    old, new = author.sign(1, ["t", "x"]), author.sign(1, ["t", "x"])
    async with house.relay() as relay, house.relay() as listener:
        await listener.frames.get()
        await house.pay(relay, [old])
        await listener.send(["REQ", "s", {"authors": [author.pubkey]}, {"#t": ["x"], "kinds": [1]}])
        assert await listener.frames.get() == ["EVENT", "s", plain(old)]
        assert await listener.frames.get() == ["EOSE", "s"]
        await house.pay(relay, [new])
        assert await listener.frames.get() == ["EVENT", "s", plain(new)]
        await listener.send(["CLOSE", "s"])
        await listener.send(["REQ", "s", {"ids": ["0" * 64]}])
        assert await listener.frames.get() == ["EOSE", "s"]
        await house.pay(relay, [author.sign(1, ["t", "x"])])
        assert listener.frames.empty()


async def test_nothing_is_missed_between_stored_and_live(house: House) -> None:
    """A REQ in the middle of a stream of letters: each comes exactly once, on one side of EOSE or the other."""
    author = Author()
    letters = [author.sign(1) for _ in range(60)]
    async with house.relay() as relay, house.relay() as listener:
        await listener.frames.get()
        posting = asyncio.create_task(house.pay(relay, letters))
        for number in range(5):
            await listener.send(["REQ", str(number), {"authors": [author.pubkey]}])
            await asyncio.sleep(0.01)
        await posting
        heard: dict[str, list[str]] = {str(number): [] for number in range(5)}
        while any(len(ids) < len(letters) for ids in heard.values()):
            frame = await asyncio.wait_for(listener.frames.get(), 60)
            if frame[0] == "EVENT":
                heard[frame[1]].append(frame[2]["id"])
        assert all(sorted(ids) == sorted(event.id for event in letters) for ids in heard.values())
