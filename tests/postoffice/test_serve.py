"""What is refused before anything is served."""

from __future__ import annotations

import pytest

from pennypost.protocol.errors import ConfigurationError
from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.serve import refuse_public_play_money

HOME: list[dict[str, object]] = [
    {},
    {"host": "localhost"},
    {"host": "::1"},
    {"host": "127.0.0.1", "public_url": "http://127.0.0.1:3338"},
    {"host": "0.0.0.0", "play_public": True},
    {"public_url": "https://mint.example", "play_public": True},
    {"host": "0.0.0.0", "lightning": "nwc"},
    {"host": "0.0.0.0", "role": "postoffice"},
]
OPEN: list[dict[str, object]] = [
    {"host": "0.0.0.0"},
    {"host": "::"},
    {"host": "192.0.2.1"},
    {"host": "mint.example"},
    {"host": "0.0.0.0", "role": "mint"},
    # loopback, behind a proxy that others reach
    {"public_url": "https://mint.example"},
]


@pytest.mark.parametrize("given", HOME, ids=str)
def test_play_money_is_sold_at_home_or_when_told_twice(given: dict[str, object]) -> None:
    refuse_public_play_money(load_settings({}, **given))


@pytest.mark.parametrize("given", OPEN, ids=str)
def test_play_money_is_not_sold_to_strangers_by_mistake(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        refuse_public_play_money(load_settings({}, **given))
