"""What the commands share: the `--json` option, results on stdout, talk and progress on stderr."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, people's talk on stderr.")]
T = TypeVar("T")


class Progress:
    """How far long work has come, on a terminal alone."""

    def __init__(self, what: str, as_json: bool) -> None:
        self._what = what
        self._wanted = sys.stderr.isatty() and not as_json
        self._next = 0.0

    def show(self, done: int, total: int) -> None:
        """`total` 0: nobody knows."""
        if self._wanted and (done == total or time.monotonic() >= self._next):
            self._next = time.monotonic() + 0.1
            print(f"\r\x1b[K{self._what} {done}" + f"/{total}" * bool(total), end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The line is free again."""
        if self._wanted:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def show(result: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result), flush=True)
    elif text:
        print(text, flush=True)


def say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
