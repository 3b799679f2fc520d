"""`--dry-run`: what a command would cost, at each office and in all, shown the same way everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from pennypost.cli.talk import Talk, plain, sats, stamps
from pennypost.mail import DRY_RUN

if TYPE_CHECKING:
    from pennypost.mail import Receipt

DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say what it would cost; send, spend and change nothing.")
]


def show_price(talk: Talk, receipts: Iterable[Receipt], msat: int = 0, fee_msat: int = 0) -> None:
    """What each office asks, the whole, and what a payment brings with the most that its fees may be."""
    asked, silent = Counter[str](), dict[str, str]()
    for each in (part for receipt in receipts for part in receipt.relays):
        if each.code == DRY_RUN:
            asked[each.office] += each.stamps
        else:
            silent[each.office] = each.code
    for office, count in asked.items():
        talk.say(f"{plain(office)} asks {stamps(count)}.")
    for office, code in silent.items():
        talk.say(f"{plain(office)} is left out: {code}.")
    paid = f", and {sats(msat)} with up to {sats(fee_msat)} of fees" if msat else ""
    talk.say(f"Nothing was sent. It would cost {stamps(asked.total())}{paid}.")
