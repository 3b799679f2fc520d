"""Databases without a schema."""

from __future__ import annotations

import pytest


@pytest.fixture
def postgres_url(empty_postgres_url: str) -> str:
    """The address of an empty database."""
    return empty_postgres_url
