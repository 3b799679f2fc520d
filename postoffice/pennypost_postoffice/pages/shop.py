"""What the buy page must know: whose stamps it sells, where they are asked for, and what they buy here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pennypost.protocol.errors import KindRefused
from pennypost.protocol.event import KIND_GIFT_WRAP
from pennypost.protocol.price import KIB, PriceList
from pennypost_mint.runtime.settings import Settings
from pennypost_postoffice.marks import NAME

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

LETTERS = (("A letter of up to 1 KiB of text", 3_030), ("Up to 4 KiB", 8_494), ("Up to 16 KiB", 33_070))
"""Letters as the SDK pads them: what they are called, and the bytes that are charged (the event's canonical form)."""

DAYS = (1, 30)


@dataclass(frozen=True, slots=True)
class Shop:
    """What is sold. `mint`: its public address, as tokens name it; `at`: where a page asks it, empty for this origin.

    `most`: stamps in one purchase, None where the mint elsewhere decides. `prices`: None where no office is here.
    """

    name: str
    office: str
    mint: str
    at: str
    most: int | None
    play: bool
    contact: str
    prices: PriceList | None

    @property
    def connects(self) -> tuple[str, ...]:
        """Where its page must be allowed to connect to, beside its own origin."""
        parts = urlsplit(self.at or self.office)
        socket = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}"
        return (f"{parts.scheme}://{parts.netloc}", socket) if self.at else (socket,)


def shop_of(settings: Settings, office: Office | None, *, has_mint: bool) -> Shop:
    """What this process sells; `has_mint`: it serves the mint itself."""
    mint = settings.url if office is None else office.mints[0]
    ours = mint == settings.url
    return Shop(
        name=settings.name if office is None else (office.marks or {}).get(NAME, settings.name),
        office=settings.url,
        mint=mint,
        at="" if has_mint and ours else mint,
        most=settings.max_mint if ours else None,
        play=ours and settings.lightning == "play",
        contact=settings.contact,
        prices=None if office is None else office.policy.prices,
    )


def letter_prices(prices: PriceList) -> list[tuple[str, list[int]]]:
    """For each of LETTERS its name and what it costs (sat) when it is kept for each of DAYS. Empty: none is taken."""
    try:
        rule = prices.rule(KIND_GIFT_WRAP)
    except KindRefused:
        return []
    if KIND_GIFT_WRAP in prices.free_kinds:
        return [(name, [0] * len(DAYS)) for name, _ in LETTERS]
    rows: list[tuple[str, list[int]]] = []
    for name, size in LETTERS:
        kib = -(-max(0, size - KIB) // KIB)
        rows.append((name, [rule.base + rule.per_kib * kib + rule.per_day * days for days in DAYS]))
    return rows
