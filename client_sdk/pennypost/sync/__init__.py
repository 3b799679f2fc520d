"""The sync face of the SDK: each class has the verbs of the asynchronous one of its name, without `await`.

client.py   Client, its stamps, mints, contacts and addresses: an event loop in a thread of its own (threads.py)
channels.py · sessions.py · trade.py (offers, messages with their payment, notices)
"""

from __future__ import annotations

from pennypost.sync.channels import Channels
from pennypost.sync.client import Addresses, Client, Contacts, Purse, Stamps
from pennypost.sync.sessions import Sessions
from pennypost.sync.trade import Notices, Offers, PaidMail

__all__ = [
    "Addresses",
    "Channels",
    "Client",
    "Contacts",
    "Notices",
    "Offers",
    "PaidMail",
    "Purse",
    "Sessions",
    "Stamps",
]
