"""What a person handles: letters that came, receipts of letters that went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from pennypost.protocol.errors import TABLE, PennypostError
from pennypost.protocol.invoice_request import Proof

ACCEPTED: Final = "accepted"
DUPLICATE: Final = "duplicate"

Privacy = Literal["fast", "page", "all"]
"""How much of the office's mail is fetched: `fast` the letters that are ours, `page` the 64 around each of them, `all`
everything. The office sees which bodies are fetched; with `page` not which of 64 was wanted, with `all` nothing."""

_BY_CODE: Final = {each.code: each for each in reversed(TABLE)}


@dataclass(frozen=True, slots=True)
class Mail:
    """A letter, opened."""

    sender: str
    """The writer's npub, proved by the signature inside."""
    text: str
    sent_at: int
    """Unix seconds, as the writer says."""
    kept_until: int
    """Unix seconds; the office deletes it then."""
    id: str
    """The event's id at the office."""
    office: str
    paid_msat: int = 0
    """What was paid with it, in msat, as an invoice of ours shows; 0 without."""
    proof: Proof | None = field(default=None, repr=False)
    """What the writer says of a payment; only `paid_msat` was held against our invoices."""
    address: str = ""
    """In a session: which of the writer's devices it is from, `<npub>#<8 digits>`."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an office said to a letter."""

    event_id: str
    office: str
    accepted: bool
    """Whether it is stored there, durably."""
    code: str
    """`accepted`, `duplicate` (it was stored already), or the code of the refusal's error."""
    stamps: int
    """Stamps it cost, in sat."""
    kept_until: int
    """Unix seconds; 0 where it is not kept."""

    @property
    def error(self) -> PennypostError | None:
        """The refusal as an error to raise or to show; None for a letter that was accepted."""
        return None if self.accepted else _BY_CODE.get(self.code, PennypostError)()
