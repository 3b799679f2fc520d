"""Servers that are started and killed over and over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.killable import Forker, Killable


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    """Where they come from."""
    opened = Forker()
    yield opened
    opened.end()


@pytest.fixture
def serve_killable(tmp_path: Path, forker: Forker) -> Iterator[Callable[..., Killable]]:
    """`serve_killable(database_url=…)` starts one; all end with the test."""
    started: list[Killable] = []

    def start(**options: Any) -> Killable:
        server = Killable(tmp_path, forker, **options)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.end()
