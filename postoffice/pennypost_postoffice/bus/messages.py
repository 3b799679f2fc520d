"""The text of bus messages: `<origin> <kind> <rest>`, and events in pieces that fit into one message."""

from __future__ import annotations

import re
from typing import NamedTuple

from pennypost_mint.runtime.limits import MOST_EVENT

FEED, MARKS, HERE, EVENT = "feed", "marks", "here", "event"

HEAD = 64
"""Bytes that stand before a piece at most."""

ORIGINS = 256
"""Processes whose pieces are collected at once."""

_MESSAGE = re.compile(r"([0-9a-f]{16}) (feed|marks|here|event)(?: (.*))?", re.DOTALL)
_PIECE = re.compile(r"([0-9]{1,6})/([0-9]{1,6}) (.*)", re.DOTALL)


class Message(NamedTuple):
    """One message: 16 hex digits of the process that sent it, what it is about, and the rest."""

    origin: str
    kind: str
    rest: str


def write(origin: str, kind: str, rest: str = "") -> str:
    """The text of a message."""
    return f"{origin} {kind} {rest}".rstrip(" ") if kind != EVENT else f"{origin} {kind} {rest}"


def read(text: str) -> Message | None:
    """A message; None for what is none of ours."""
    found = _MESSAGE.fullmatch(text)
    return None if found is None else Message(found[1], found[2], found[3] or "")


def write_event(origin: str, body: bytes, most: int) -> list[str]:
    """The messages that carry an event's JSON, each at most `most` bytes of UTF-8; they must stay together."""
    pieces: list[bytes] = []
    start = 0
    while start < len(body):
        end = min(len(body), start + most - HEAD)
        while end < len(body) and body[end] & 0xC0 == 0x80:
            end -= 1  # not in the middle of a character
        pieces.append(body[start:end])
        start = end
    return [write(origin, EVENT, f"{number}/{len(pieces)} {piece.decode()}") for number, piece in enumerate(pieces, 1)]


class Pieces:
    """Puts events together again. A piece that does not follow on what is there throws away what was collected."""

    def __init__(self) -> None:
        self._parts: dict[str, list[str]] = {}

    def add(self, message: Message) -> bytes | None:
        """The event's JSON when this was its last piece."""
        found = _PIECE.fullmatch(message.rest)
        parts = self._parts.pop(message.origin, [])
        if found is None:
            return None
        number, count = int(found[1]), int(found[2])
        if number == 1:
            parts = []
        if number != len(parts) + 1 or number > count or sum(map(len, parts)) > MOST_EVENT:
            return None
        parts.append(found[3])
        if number == count:
            return "".join(parts).encode()
        if len(self._parts) < ORIGINS:
            self._parts[message.origin] = parts
        return None
