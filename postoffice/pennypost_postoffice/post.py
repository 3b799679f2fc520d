"""What travels through the post office: an event, its stamp, and whoever waits for the answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pennypost.protocol.errors import PennypostError
from pennypost.protocol.event import Event
from pennypost.protocol.price import Postage
from pennypost.protocol.proof import Proof as WireProof
from pennypost_mint.api import BlindSignature
from pennypost_postoffice.checks import Proof
from pennypost_postoffice.deletion import Deletion

if TYPE_CHECKING:
    from pennypost_postoffice.foreign.journal import Paid


class Blank(NamedTuple):
    """A blank output for change (NUT-08): keyset id, the keyset's position in the database, B_ (33 bytes)."""

    keyset_id: str
    position: int
    b: bytes


class Output(NamedTuple):
    """A blank that gets something back."""

    blank: Blank
    amount: int


class Stamp(NamedTuple):
    """Proofs of our own mint that passed the cheap checks; `positions` are their keysets' in the database."""

    proofs: list[Proof]
    positions: list[int]
    sat: int


class ForeignStamp(NamedTuple):
    """Proofs of a mint elsewhere as they came: ids may be short, and nothing is checked but their form."""

    mint: str
    proofs: list[WireProof]
    sat: int


class Answer(NamedTuple):
    """One OK: `code` is for the metrics, `change` are blind signatures as NUT-00 writes them, sent before the OK.

    `status` is that of HTTP; `postmark` goes before the OK of those who asked for it.
    """

    accepted: bool
    message: str
    code: str
    change: list[dict[str, Any]] | None = None
    status: int = 200
    postmark: dict[str, Any] | None = None


def refusal(error: PennypostError) -> Answer:
    """The answer for whatever was raised."""
    return Answer(False, error.nip01(), error.code, None, error.status)


def stored(keep_until: int, change: list[dict[str, Any]] | None, held: bool = False) -> Answer:
    """The answer for an event that is durable; `keep_until` in Unix seconds; `held`: nobody is served it yet."""
    return Answer(True, f"accepted: until {keep_until}" + ", held until it is released" * held, "accepted", change)


def duplicate(change: list[dict[str, Any]] | None) -> Answer:
    """The answer for an event that was stored before: its stamp is untouched, and its change is sent again."""
    return Answer(True, "duplicate: already stored", "duplicate", change)


class Sender(Protocol):
    """Where an event came from, and where its answer goes."""

    origin: str
    """`host` or `host:port` by which this office was reached: one of the names of its mint."""

    authenticated: set[str]
    """Public keys in hex that answered the challenge (NIP-42)."""

    source: bytes
    """What stands for its address (runtime.sources)."""

    rate_key: object | None
    """The connection whose rate of free events this counts against; None for a request of its own."""

    def took(self) -> None:
        """Called when an event is on its way: `answered` follows."""
        ...

    def answered(self, post: Post, answer: Answer) -> None:
        """Called once, when the event is durable or refused."""
        ...


class Post:
    """One event on its way. Each stage fills in what it found; nothing is filled in twice."""

    __slots__ = (
        "address",
        "arrived",
        "blanks",
        "body",
        "deletion",
        "event",
        "foreign",
        "hold",
        "id",
        "memory",
        "outputs",
        "paid",
        "postage",
        "postmark",
        "pubkey",
        "record",
        "refusal",
        "sender",
        "signatures",
        "stamp",
        "tag_keys",
        "unpaid",
        "unread",
        "ys",
    )

    sender: Sender
    arrived: float
    """Seconds of the monotonic clock."""
    event: Event
    body: bytes
    """The event's JSON, made once: stored and sent as it is."""
    id: bytes
    pubkey: bytes
    postage: Postage
    stamp: Stamp | None
    foreign: ForeignStamp | None
    """A stamp of a mint elsewhere, until it is swapped or refused."""
    paid: Paid | None
    """That swap, once it is done: the commit takes its proofs and ends its row of the journal."""
    unpaid: bool
    """Whether the prices ask nothing of it: it is in one of the quotas of what no stamp paid."""
    refusal: PennypostError | None
    """The answer unless the event turns out to be stored, deleted, or a deletion that is free."""
    unread: tuple[object, object] | None
    """Token and options of a stamp whose keyset is not known: read again after a look at the keysets."""
    memory: tuple[bytes, ...] | None
    """Ys of its stamp remembered as spent: worth a look-up before any crypto."""
    blanks: list[Blank]
    outputs: list[Output]
    address: bytes | None
    """Where only the latest event is kept."""
    deletion: Deletion | None
    hold: bytes | None
    """T, under which nobody is served it before its release."""
    postmark: bool
    """Whether a postmark is asked for."""
    tag_keys: set[bytes]
    record: bytes | None
    """Its line of the header feed."""
    ys: list[bytes]
    """Y (33 bytes) of each proof, once the stamp is verified."""
    signatures: list[BlindSignature]
    """Of the outputs, in their order."""

    def __init__(self, sender: Sender, arrived: float) -> None:
        self.sender = sender
        self.arrived = arrived
        self.stamp = None
        self.foreign = None
        self.paid = None
        self.unpaid = False
        self.refusal = None
        self.unread = None
        self.memory = None
        self.blanks = []
        self.outputs = []
        self.address = None
        self.deletion = None
        self.hold = None
        self.postmark = False
        self.tag_keys = set()
        self.record = None
        self.ys = []
        self.signatures = []

    def pay(self, paid: Paid | None) -> None:
        """From now on it is an event whose postage came in elsewhere: the commit asks no stamp of it."""
        self.postage = replace(self.postage, free=True)
        self.foreign, self.paid = None, paid

    @property
    def is_paid(self) -> bool:
        """Whether a stamp came with it that was good as far as we know: it pays for the work, if it is taken."""
        return self.stamp is not None or self.paid is not None

    @property
    def is_unpriced(self) -> bool:
        """Whether it is a letter that its price rule asks nothing for: it is in the quota of those."""
        return self.unpaid and self.postage.unpriced and self.deletion is None

    def claims(self) -> tuple[bytes, ...]:
        """All that no other event of the same transaction may touch."""
        claimed = (self.id, *self.ys)
        if self.blanks:
            claimed += tuple(blank.b for blank in self.blanks)
        if self.address is not None:
            claimed += (self.address,)
        if self.deletion is not None:
            claimed += (*self.deletion.ids, *self.deletion.addresses)
        return claimed
