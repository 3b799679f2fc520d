"""Filters of REQ: strict reading and the match against one event (NIP-01, From client to relay).

dict ──parse_filter──▶ Filter ──matches(event)──▶ bool      (`limit` plays no part in the match)
                         └──filter_json──▶ dict for a REQ
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeGuard, TypeVar, cast

import msgspec

from pennypost.protocol.errors import InvalidFilter
from pennypost.protocol.event import MAX_INTEGER, MAX_KIND, Event

_T = TypeVar("_T")

_HEX64: Final = re.compile(r"[0-9a-f]{64}")
_TAG_KEY: Final = re.compile(r"#[A-Za-z]")


@dataclass(frozen=True, slots=True)
class FilterBounds:
    """What a filter may hold at most; counts of elements, and `tag_value` in characters."""

    ids: int = 1_000
    authors: int = 5_000
    kinds: int = 1_000
    tag_values: int = 5_000
    """Values of all tag conditions together. Keychat asks for 1,500 keys in one `#p`."""
    tag_value: int = 1_024
    limit: int = 5_000
    """A higher `limit` is lowered to this (NIP-11, max_limit)."""


DEFAULT_BOUNDS: Final = FilterBounds()


class Filter(msgspec.Struct, frozen=True, gc=False):
    """One filter. None: no such condition. An empty tuple: a condition nothing meets. `tags`: letter → values."""

    ids: tuple[str, ...] | None = None
    authors: tuple[str, ...] | None = None
    kinds: tuple[int, ...] | None = None
    since: int | None = None
    until: int | None = None
    limit: int | None = None
    tags: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict[str, tuple[str, ...]])


def parse_filter(value: object, bounds: FilterBounds = DEFAULT_BOUNDS) -> Filter:
    """Read one filter from a decoded JSON object strictly.

    Unknown keys, values of a wrong type and lists over their bound raise InvalidFilter; doubled list values are
    dropped; `limit` is lowered to `bounds.limit`. An empty list is kept: it matches nothing.
    """
    if not isinstance(value, dict):
        raise InvalidFilter("not an object")
    ids = authors = kinds = None
    since = until = limit = None
    tags: dict[str, tuple[str, ...]] = {}
    left = bounds.tag_values
    for key, given in cast("dict[object, object]", value).items():
        match key:
            case "ids":
                ids = _keys("ids", given, bounds.ids)
            case "authors":
                authors = _keys("authors", given, bounds.authors)
            case "kinds":
                kinds = _kinds(given, bounds.kinds)
            case "since":
                since = _integer("since", given)
            case "until":
                until = _integer("until", given)
            case "limit":
                limit = min(_integer("limit", given), bounds.limit)
            case str() if _TAG_KEY.fullmatch(key):
                found = _keys(key, given, left) if key in ("#e", "#p") else _texts(key, given, left, bounds.tag_value)
                left -= len(cast("list[object]", given))
                tags[key[1]] = found
            case _:
                raise InvalidFilter("an unknown field")
    return Filter(ids, authors, kinds, since, until, limit, tags)


def _list(name: str, value: object, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidFilter(f"{name} is not a list")
    items = cast("list[Any]", value)
    if len(items) > most:
        raise InvalidFilter(f"{name} has too many values")
    return items


def _keys(name: str, value: object, most: int) -> tuple[str, ...]:
    """Event ids or public keys: exactly 64 lower-case hex digits each (NIP-01)."""
    items = _list(name, value, most)
    if not all(isinstance(item, str) and _HEX64.fullmatch(item) for item in items):
        raise InvalidFilter(f"{name} holds other than 64 lower-case hex digits")
    return tuple(dict.fromkeys(items))


def _texts(name: str, value: object, most: int, length: int) -> tuple[str, ...]:
    items = _list(name, value, most)
    # NUL and lone surrogates are in no event that was accepted, and no database takes them.
    if not all(isinstance(item, str) and len(item) <= length and _is_text(item) for item in items):
        raise InvalidFilter(f"{name} holds other than short strings")
    return tuple(dict.fromkeys(items))


def _is_text(item: str) -> bool:
    return "\0" not in item and (item.isascii() or not any("\ud800" <= char <= "\udfff" for char in item))


def _kinds(value: object, most: int) -> tuple[int, ...]:
    items = _list("kinds", value, most)
    if not all(_is_integer(item) and 0 <= item <= MAX_KIND for item in items):
        raise InvalidFilter("kinds holds other than integers from 0 to 65535")
    return tuple(dict.fromkeys(items))


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(name: str, value: object) -> int:
    if not _is_integer(value) or value < 0:
        raise InvalidFilter(f"{name} is not a whole number")
    return min(value, MAX_INTEGER)


def matches(wanted: Filter, event: Event) -> bool:
    """Whether the event meets every condition of the filter (NIP-01); `limit` is not one.

    Only the first value of a tag counts.
    """
    if wanted.kinds is not None and event.kind not in wanted.kinds:
        return False
    if wanted.since is not None and event.created_at < wanted.since:
        return False
    if wanted.until is not None and event.created_at > wanted.until:
        return False
    if wanted.authors is not None and event.pubkey not in wanted.authors:
        return False
    if wanted.ids is not None and event.id not in wanted.ids:
        return False
    for letter, values in wanted.tags.items():
        for tag in event.tags:
            if tag[0] == letter and len(tag) > 1 and tag[1] in values:
                break
        else:
            return False
    return True


def compile_filter(wanted: Filter) -> Callable[[Event], bool]:
    """A function that answers as `matches(wanted, event)` does, in a time that does not grow with its lists."""
    kinds, authors, ids = _set(wanted.kinds), _set(wanted.authors), _set(wanted.ids)
    since = 0 if wanted.since is None else wanted.since
    until = MAX_INTEGER if wanted.until is None else wanted.until
    tags = [(letter, frozenset(values)) for letter, values in wanted.tags.items()]

    def meets(event: Event) -> bool:
        return (
            (kinds is None or event.kind in kinds)
            and since <= event.created_at <= until
            and (authors is None or event.pubkey in authors)
            and (ids is None or event.id in ids)
            and all(
                any(tag[0] == letter and len(tag) > 1 and tag[1] in values for tag in event.tags)
                for letter, values in tags
            )
        )

    return meets


def _set(values: tuple[_T, ...] | None) -> frozenset[_T] | None:
    return None if values is None else frozenset(values)


def filter_json(wanted: Filter) -> dict[str, object]:
    """The filter as the JSON object that `parse_filter` reads and a REQ carries."""
    plain: dict[str, object] = {
        name: list(value) if isinstance(value, tuple) else value
        for name in ("ids", "authors", "kinds", "since", "until", "limit")
        if (value := cast("tuple[object, ...] | int | None", getattr(wanted, name))) is not None
    }
    return plain | {f"#{letter}": list(values) for letter, values in wanted.tags.items()}
