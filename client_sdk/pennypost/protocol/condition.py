"""Spending conditions: secrets that lock a proof (NUT-10).

secret ── spending_condition ──▶ None (an ordinary secret), or Condition(kind, data, tags)
"""

from __future__ import annotations

import json
from typing import cast

import msgspec


class Condition(msgspec.Struct, frozen=True):
    """A spending condition (NUT-10). `malformed`: its tags break the grammar, so nobody can spend it (NUT-11, Tags)."""

    kind: str
    data: str
    tags: tuple[tuple[str, ...], ...] = ()
    malformed: bool = False


def spending_condition(secret: str) -> Condition | None:
    """The condition that locks a proof's secret, or None for an ordinary secret (NUT-10, Well-known Secret).

    A condition is JSON `[kind, {"nonce": …, "data": …, "tags": …}]` with texts for kind, nonce and data; what
    only looks like it is an ordinary secret. The reading errs towards locked: of an unknown kind, with tags that break
    the grammar or with a field twice it is still a condition (`malformed` in the last two cases), for other people's
    wallets would take it for a lock.
    """
    if secret[:1] not in ("[", " ", "\t", "\n", "\r"):
        return None
    repeated: list[str] = []

    def collect(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            repeated.append("")
        return found

    try:
        # Python's own decoder, because it takes whatever any other reader of JSON takes.
        value = json.loads(secret, object_pairs_hook=collect)
    except (ValueError, RecursionError):
        return None
    match value:
        case [str(kind), {"nonce": str(), "data": str(data), **rest}]:
            tags = _tags(cast("object", rest.get("tags")))
            return Condition(kind, data, tags or (), malformed=tags is None or bool(repeated))
        case _:
            return None


def _tags(value: object) -> tuple[tuple[str, ...], ...] | None:
    """Tags as tuples; None when they are not lists of one or more texts that are not empty (NUT-10, Tag format)."""
    if value is None:
        return ()
    if not isinstance(value, list):
        return None
    tags: list[tuple[str, ...]] = []
    for tag in cast("list[object]", value):
        if not isinstance(tag, list) or not tag:
            return None
        texts = cast("list[object]", tag)
        if not all(isinstance(text, str) and text for text in texts):
            return None
        tags.append(tuple(cast("list[str]", texts)))
    return tuple(tags)
