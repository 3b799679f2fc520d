"""One rule for what a machine may lack: skipped with its reason, or failed when `REQUIRE_ALL=1`."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Ends the test: skipped, or failed when the environment says that nothing may skip."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def require(present: object, reason: str) -> None:
    """Goes on when `present` is true; else see `lacking`. `reason` says what to install."""
    if not present:
        lacking(reason)
