"""How the commands of the operator speak: results on stdout, talk and progress on stderr."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

from pennypost.protocol.errors import InvalidInput


class Progress:
    """A bar on stderr, where somebody looks at it."""

    WIDTH = 30

    def __init__(self, what: str, as_json: bool) -> None:
        self._what, self._shown = what, sys.stderr.isatty() and not as_json

    def show(self, done: int, part: float) -> None:
        """`done` of what is counted, and how much of all that is, from 0 to 1."""
        if self._shown:
            filled = round(self.WIDTH * min(1.0, max(0.0, part)))
            bar = "#" * filled + "." * (self.WIDTH - filled)
            print(f"\r\x1b[K[{bar}] {done} {self._what}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Takes the bar away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def show(result: dict[str, Any], text: str, as_json: bool) -> None:
    """One result: a line of JSON, or text for people."""
    if as_json:
        print(json.dumps(result), flush=True)
    elif text:
        print(text, flush=True)


def say(sentence: str) -> None:
    """Something a person should know."""
    print(sentence, file=sys.stderr, flush=True)


def day_text(day: int) -> str:
    """A Unix day as a date."""
    return datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d")


def seconds_of(text: str | None) -> int | None:
    """Unix seconds of digits or of a date (its first second, UTC). Raises InvalidInput."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise InvalidInput("a time is a date such as 2026-12-31, or Unix seconds") from None


def kinds_of(text: str | None) -> range | None:
    """The kinds in `1059` or `30000-39999`. Raises InvalidInput."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    numbers = [each for each in (first, last if dash else first) if each.isascii() and each.isdigit() and len(each) < 6]
    if len(numbers) != 2 or not int(numbers[0]) <= int(numbers[1]) <= 65_535:
        raise InvalidInput("a kind is a number such as 1059, or a range such as 30000-39999")
    return range(int(numbers[0]), int(numbers[1]) + 1)
