"""pennypost: letters with a stamp on them.

from pennypost import Client, sandbox
office = sandbox()                               # a mint, a post office and play money in this process
alice, bob = Client(office), Client(office)
alice.stamps.buy(20)
alice.send(bob.npub, "meet at nine")
for mail in bob.inbox(): print(mail.sender, mail.text)

`AsyncClient` has the same verbs as coroutines. Every error is a `PennypostError`; `pennypost.protocol` holds the pure
parts. Importing this module imports nothing else: each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pennypost._sandbox import Sandbox, sandbox
    from pennypost.client import AsyncClient
    from pennypost.contacts import Contact
    from pennypost.drop import Dropped
    from pennypost.ledger import Balance
    from pennypost.letters import Waiting
    from pennypost.mail import Mail, Receipt
    from pennypost.notices import Announced, NoticeReceipt
    from pennypost.offers import Bought, Sale
    from pennypost.orders import Purchase
    from pennypost.paid_mail import PaidReceipt
    from pennypost.protocol.errors import (
        ClientError,
        GarbageProof,
        HomeUnusable,
        InvalidInput,
        InvalidKey,
        MintError,
        NotEnoughStamps,
        OfficeMisbehaves,
        OfficeUnreachable,
        OtherMint,
        PaymentTimeout,
        PaymentUnknown,
        PennypostError,
        PolicyError,
        PriceTooHigh,
        ServerError,
        ServerExtraMissing,
        StampError,
        WalletError,
    )
    from pennypost.stamps import Check
    from pennypost.sync import Client

__all__ = [
    "Announced",
    "AsyncClient",
    "Balance",
    "Bought",
    "Check",
    "Client",
    "ClientError",
    "Contact",
    "Dropped",
    "GarbageProof",
    "HomeUnusable",
    "InvalidInput",
    "InvalidKey",
    "Mail",
    "MintError",
    "NotEnoughStamps",
    "NoticeReceipt",
    "OfficeMisbehaves",
    "OfficeUnreachable",
    "OtherMint",
    "PaidReceipt",
    "PaymentTimeout",
    "PaymentUnknown",
    "PennypostError",
    "PolicyError",
    "PriceTooHigh",
    "Purchase",
    "Receipt",
    "Sale",
    "Sandbox",
    "ServerError",
    "ServerExtraMissing",
    "StampError",
    "Waiting",
    "WalletError",
    "sandbox",
]

_HOMES = {
    "Announced": "notices",
    "AsyncClient": "client",
    "Balance": "ledger",
    "Bought": "offers",
    "Check": "stamps",
    "Client": "sync",
    "Contact": "contacts",
    "Dropped": "drop",
    "Mail": "mail",
    "NoticeReceipt": "notices",
    "PaidReceipt": "paid_mail",
    "Purchase": "orders",
    "Receipt": "mail",
    "Sale": "offers",
    "Sandbox": "_sandbox",
    "Waiting": "letters",
    "sandbox": "_sandbox",
}
"""Where a name lives; those not listed are errors."""


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pennypost' has no attribute {name!r}")
    module = import_module(f"pennypost.{_HOMES.get(name, 'protocol.errors')}")
    found: object = getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
