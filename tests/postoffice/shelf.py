"""The slow obvious relay: NIP-01, 09, 40, 45 and 62 read line by line over a dict of events; the fast one's oracle."""

from __future__ import annotations

from dataclasses import dataclass, field

from pennypost.protocol.event import (
    KIND_DELETION,
    KIND_GIFT_WRAP,
    Event,
    address,
    is_newer,
    tag_value,
)
from pennypost.protocol.filter import Filter, matches


def values(event: Event, name: str) -> list[str]:
    """The values of all tags of that name."""
    return [tag[1] for tag in event.tags if tag[0] == name and len(tag) > 1]


@dataclass
class Shelf:
    """What is stored, and what stays out: ids by whose right, addresses up to when, keys up to when."""

    events: dict[str, Event] = field(default_factory=dict)
    graves: set[tuple[str, str]] = field(default_factory=set)
    places: dict[str, int] = field(default_factory=dict)
    gone: dict[str, int] = field(default_factory=dict)

    def put(self, event: Event) -> bool:
        """Whether it is stored afterwards, as new."""
        if event.id in self.events or self._stays_out(event):
            return False
        place = address(event)
        for other in list(self.events.values()):
            if place is not None and address(other) == place:
                if not is_newer(event, other):
                    return False
                del self.events[other.id]
        if event.kind == KIND_DELETION:
            self._delete(event)
        self.events[event.id] = event
        return True

    def _owners(self, event: Event) -> list[str]:
        return [event.pubkey] + (values(event, "p") if event.kind == KIND_GIFT_WRAP else [])

    def _stays_out(self, event: Event) -> bool:
        place = address(event)
        return (
            any((event.id, owner) in self.graves for owner in self._owners(event))
            or (place is not None and event.created_at <= self.places.get(place, -1))
            or self._is_gone(event)
        )

    def _is_gone(self, event: Event) -> bool:
        return any(event.created_at <= self.gone.get(owner, -1) for owner in self._owners(event))

    def _delete(self, request: Event) -> None:
        for identifier in values(request, "e"):
            target = self.events.get(identifier)
            if target is None:
                self.graves.add((identifier, request.pubkey))
            elif target.kind != KIND_DELETION and request.pubkey in self._owners(target):
                del self.events[identifier]
                self.graves.add((identifier, request.pubkey))
        for place in values(request, "a"):
            kind, _, rest = place.partition(":")
            if rest.partition(":")[0] != request.pubkey or not (kind.startswith(("1", "3")) and len(kind) == 5):
                continue
            self.places[place] = max(self.places.get(place, -1), request.created_at)
            for other in list(self.events.values()):
                if address(other) == place and other.created_at <= request.created_at:
                    del self.events[other.id]

    def vanish(self, pubkey: str, until: int) -> None:
        """NIP-62: all of a key up to that time, and gift wraps to it; with its deletions what they alone name."""
        self.gone[pubkey] = max(self.gone.get(pubkey, -1), until)
        deletions = [each for each in self.events.values() if each.kind == KIND_DELETION and each.pubkey == pubkey]
        later = {name for each in deletions if each.created_at > until for name in values(each, "e")}
        for request in deletions:
            if request.created_at <= until:
                self.graves -= {(name, pubkey) for name in values(request, "e") if name not in later}
                for place in values(request, "a"):
                    if place.split(":")[1:2] == [pubkey] and self.places.get(place, -1) <= until:
                        self.places.pop(place, None)
        self.events = {key: event for key, event in self.events.items() if not self._is_gone(event)}

    def may_see(
        self, event: Event, wanted: Filter, *, private: bool = False, keys: frozenset[str] = frozenset()
    ) -> bool:
        """Who is served a gift wrap: who names what finds it; without a view tag, who names its receiver or its id."""
        if event.kind != KIND_GIFT_WRAP:
            return True
        if (tag_value(event, "vt") or "") != "":
            return wanted.ids is not None or wanted.authors is not None or bool(wanted.tags)
        if wanted.ids is None and "p" not in wanted.tags:
            return False
        return not private or not keys.isdisjoint(values(event, "p"))

    def find(self, wanted: Filter, *, private: bool = False, keys: frozenset[str] = frozenset()) -> list[Event]:
        """The answer to a REQ of one filter, in its order."""
        found = [
            event
            for event in sorted(self.events.values(), key=lambda event: (-event.created_at, event.id))
            if matches(wanted, event) and self.may_see(event, wanted, private=private, keys=keys)
        ]
        return found if wanted.limit is None else found[: wanted.limit]

    def count(self, *filters: Filter, private: bool = False, keys: frozenset[str] = frozenset()) -> int:
        """The answer to a COUNT: the `limit` of a filter plays no part."""
        return len(
            {
                event.id
                for wanted in filters
                for event in self.events.values()
                if matches(wanted, event) and self.may_see(event, wanted, private=private, keys=keys)
            }
        )
