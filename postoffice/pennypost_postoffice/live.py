"""Live subscriptions: which of them want an event, found by an inverted index; each event is serialised once.

    Watch (one filter) ─ registered under its rarest condition ─▶ id · tag · author · kind · everything
    event ─▶ the few watches under its own id, tags, author, kind ─▶ exact check ─▶ prefix + body + "]"

While a subscription's stored events are being sent, new ones are held, so that EOSE stands between the two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Set
from typing import Protocol, TypeVar

from pennypost.protocol.event import KIND_GIFT_WRAP, Event
from pennypost.protocol.filter import Filter
from pennypost.protocol.frames import event_message
from pennypost_mint.runtime.limits import HELD_LIVE, STEP_BYTES
from pennypost_postoffice.rows import is_concealed

T = TypeVar("T")
Key = tuple[str, object]

EVERYTHING: Key = ("*", None)


class Reader(Protocol):
    """Whoever subscribed."""

    authenticated: set[str]

    def send(self, text: str) -> None:
        """Queues one frame; never waits."""
        ...

    def cut_off(self) -> None:
        """Closes a connection that is too slow."""
        ...


class Watch:
    """One filter, with sets where it has lists; `admits` agrees with pennypost.protocol.filter.matches."""

    __slots__ = ("authors", "finds_wraps", "ids", "kinds", "names_receiver", "since", "tags", "until", "wanted")

    def __init__(self, wanted: Filter) -> None:
        self.wanted = wanted
        self.ids = _set(wanted.ids)
        self.authors = _set(wanted.authors)
        self.kinds = _set(wanted.kinds)
        self.since, self.until = wanted.since, wanted.until
        self.tags = {letter: frozenset(values) for letter, values in wanted.tags.items()}
        self.names_receiver = names_receiver(wanted)
        self.finds_wraps = finds_wraps(wanted)

    def admits(self, event: Event) -> bool:
        """Whether the event meets every condition."""
        if self.kinds is not None and event.kind not in self.kinds:
            return False
        if self.authors is not None and event.pubkey not in self.authors:
            return False
        if self.ids is not None and event.id not in self.ids:
            return False
        if self.since is not None and event.created_at < self.since:
            return False
        if self.until is not None and event.created_at > self.until:
            return False
        for letter, values in self.tags.items():
            if not any(tag[0] == letter and len(tag) > 1 and tag[1] in values for tag in event.tags):
                return False
        return True

    def index_keys(self) -> list[Key]:
        """Where the index holds it; an event that it admits has at least one of them."""
        if self.ids is not None:
            return [("id", value) for value in self.ids]
        if self.tags:
            letter, values = min(self.tags.items(), key=lambda item: len(item[1]))
            return [("#" + letter, value) for value in values]
        if self.authors is not None:
            return [("author", value) for value in self.authors]
        if self.kinds is not None:
            return [("kind", value) for value in self.kinds]
        return [EVERYTHING]


def _set(values: tuple[T, ...] | None) -> frozenset[T] | None:
    return None if values is None else frozenset(values)


def names_receiver(wanted: Filter) -> bool:
    """Whether a filter may see gift wraps without a view tag: it names `#p` or `ids`."""
    return wanted.ids is not None or "p" in wanted.tags


def finds_wraps(wanted: Filter) -> bool:
    """Whether a filter may see gift wraps at all: it names ids, authors or a tag. Who wants all reads the feed."""
    return wanted.ids is not None or wanted.authors is not None or bool(wanted.tags)


def is_addressed_to(event: Event, keys: Set[str]) -> bool:
    """Whether one of these public keys is a `p` of the event."""
    return any(tag[0] == "p" and len(tag) > 1 and tag[1] in keys for tag in event.tags)


class Subscription:
    """One REQ of one connection."""

    __slots__ = ("already", "closed", "held", "name", "prefix", "reader", "watches")

    def __init__(self, reader: Reader, name: str, filters: tuple[Filter, ...]) -> None:
        self.reader = reader
        self.name = name
        self.watches = [Watch(wanted) for wanted in filters]
        self.prefix = event_message(name, b"")[:-1]
        self.held: deque[tuple[str, str]] | None = deque()
        """Id and JSON of new events while the stored ones are sent; None afterwards."""
        self.already: set[str] = set()
        """Ids sent as stored whose publication may still be to come."""
        self.closed = False

    def frame(self, body: str) -> str:
        """`["EVENT", name, event]` around an event's JSON."""
        return f"{self.prefix}{body}]"

    def deliver(self, identifier: str, body: str) -> None:
        """A new event that one of its filters admits."""
        if self.held is not None:
            if len(self.held) >= HELD_LIVE:
                self.reader.cut_off()
                return
            self.held.append((identifier, body))
        elif identifier in self.already:
            self.already.discard(identifier)
        else:
            self.reader.send(self.frame(body))

    def caught_up(self, sent: set[str]) -> bool:
        """After EOSE: sends STEP_BYTES of what was held and not sent as stored; returns whether that was all.

        Then new events come at once, and `settled` follows when all of `sent` is published.
        """
        size = 0
        while self.held and size < STEP_BYTES:
            identifier, body = self.held.popleft()
            if identifier not in sent:
                self.reader.send(self.frame(body))
                size += len(body)
        if self.held:
            return False
        self.held, self.already = None, sent
        return True

    def settled(self) -> None:
        """Everything that it was sent as stored has been published."""
        self.already = set()


class Live:
    """All subscriptions of one process. `private`: concealed wraps go only to their authenticated receiver."""

    def __init__(self, private: bool = False) -> None:
        self.private = private
        self._index: dict[Key, dict[Watch, Subscription]] = {}

    @property
    def listens(self) -> bool:
        """Whether anybody subscribed to anything."""
        return bool(self._index)

    def add(self, subscription: Subscription) -> None:
        """From now on it gets every new event that one of its filters admits."""
        for watch in subscription.watches:
            for key in watch.index_keys():
                self._index.setdefault(key, {})[watch] = subscription

    def remove(self, subscription: Subscription) -> None:
        """It gets nothing any more."""
        subscription.closed = True
        for watch in subscription.watches:
            for key in watch.index_keys():
                watches = self._index[key]
                del watches[watch]
                if not watches:
                    del self._index[key]

    def publish(self, event: Event, body: bytes) -> int:
        """Hands a new event to every subscription that wants it; returns how many."""
        if not self._index:
            return 0
        wanting: dict[Subscription, None] = {}
        wrap = event.kind == KIND_GIFT_WRAP
        concealed = wrap and is_concealed(event.kind, body)
        for key in _keys_of(event):
            for watch, subscription in self._index.get(key, _NONE).items():
                if subscription in wanting or (wrap and not watch.finds_wraps) or not watch.admits(event):
                    continue
                if not concealed or self._may_see(watch, event, subscription.reader.authenticated):
                    wanting[subscription] = None
        if wanting:
            text = body.decode()
            for subscription in wanting:
                subscription.deliver(event.id, text)
        return len(wanting)

    def _may_see(self, watch: Watch, event: Event, authenticated: Set[str]) -> bool:
        """Whether a concealed wrap that the filter admits may go to this reader; `store` has the same rule."""
        return watch.names_receiver and (not self.private or is_addressed_to(event, authenticated))


_NONE: dict[Watch, Subscription] = {}


def _keys_of(event: Event) -> Iterator[Key]:
    yield "id", event.id
    yield "author", event.pubkey
    yield "kind", event.kind
    yield EVERYTHING
    for tag in event.tags:
        if len(tag) > 1 and len(tag[0]) == 1:
            yield "#" + tag[0], tag[1]
