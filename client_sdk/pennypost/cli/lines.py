"""Many letters at once, for `pennypost send --lines`: each line of stdin a JSON object, each answer a line too.

    {"to": "npub1…", "text": "meet at nine", "once": "monday-bob"} ─▶ send ─▶ its receipt, with the line's number

What is wrong with one letter stops no other; what would stop every other (no stamps, no answer) ends the command.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TextIO

import msgspec

from pennypost.protocol.errors import InvalidInput, NameChanged, NoSession, OnceUsed, PennypostError

LINE_LIMIT: Final = 512 * 1024
"""Characters of a line: a letter of 16 KiB, each byte written as an escape, and room."""
OF_ONE: Final[tuple[type[PennypostError], ...]] = (InvalidInput, NameChanged, NoSession, OnceUsed)
"""Errors that concern one letter: the next may be sent."""


class Line(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One letter to be sent; `to` may be left out where the command names somebody for all lines."""

    text: str
    to: str = ""
    once: str | None = None
    subject: str = ""
    reply_to: str = ""


_decoder: Final = msgspec.json.Decoder(Line)


def parse_line(text: str) -> Line:
    """One line. Raises InvalidInput for whatever is no letter."""
    try:
        return _decoder.decode(text.encode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise InvalidInput(
            "a line is an object with `text`, and may have `to`, `once`, `subject`, `reply_to`"
        ) from None


def read_lines(stream: TextIO) -> Iterator[tuple[int, str]]:
    """Lines and their numbers from 1; empty ones are passed over. Raises InvalidInput for one over LINE_LIMIT."""
    number = 0
    while text := stream.readline(LINE_LIMIT + 1):
        number += 1
        if len(text) > LINE_LIMIT:
            raise InvalidInput(f"line {number} has more than {LINE_LIMIT} characters")
        if text.strip():
            yield number, text
