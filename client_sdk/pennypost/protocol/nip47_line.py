"""What one connection to a wallet has come to, without the connection (NIP-47, NIP-01, NIP-42).

    opened: subscribe(INFO) ▶ EOSE ▶ subscribe(ANSWERS) ▶ EOSE
    take(message) ─▶ steps for whoever holds the socket: Send · Ready · Answer · Unanswered · Received · Leave

A relay is a stranger: what the wallet did not sign changes nothing, and `nonsense` counts frames in a row that nobody
asked for. Clock and randomness come from outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pennypost.protocol import frames
from pennypost.protocol.errors import InvalidPayload
from pennypost.protocol.event import Event, tag_value
from pennypost.protocol.nip47 import Encryption, Transaction, WalletInfo, WalletResponse, WalletSession

INFO: Final = "info"
ANSWERS: Final = "answers"
"""The two subscriptions of a line, by their names."""
NONSENSE: Final = 1_000
"""Frames in a row that nobody asked for before a relay is left."""
RESENT: Final = 2
"""How often a subscription that the relay closed is asked for again."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send this frame."""

    frame: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A subscription is open, and what was stored has come."""

    name: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The wallet's answer to the request of this id."""

    request: str
    response: WalletResponse


@dataclass(frozen=True, slots=True)
class Unanswered:
    """There will be no answer that can be read; `taken` tells whether the wallet had the request."""

    request: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Received:
    """A payment that came in."""

    payment: Transaction


@dataclass(frozen=True, slots=True)
class Leave:
    """This relay does not serve us."""


Step = Send | Ready | Answer | Unanswered | Received | Leave


class LineState:
    """The state of one connection; `info` is the wallet's own word, None while it is not known."""

    def __init__(self, session: WalletSession, url: str) -> None:
        """`url` is the relay's, which an answer to its challenge names (NIP-42)."""
        self.info: WalletInfo | None = None
        self.nonsense = 0
        self._session, self._url = session, url
        self._waiting: dict[str, Encryption] = {}
        self._ready: set[str] = set()
        self._closed: set[str] = set()
        self._auth: str | None = None
        self._authenticated = False
        self._resent = 0

    @property
    def encryption(self) -> Encryption:
        """NIP-44, unless the wallet's own word is that it knows only NIP-04."""
        return Encryption.NIP44 if self.info is None else self.info.encryption

    @property
    def waiting(self) -> int:
        """How many requests have no answer."""
        return len(self._waiting)

    def subscribe(self, name: str) -> str:
        """The frame that asks for INFO or ANSWERS."""
        wanted = self._session.info_filter() if name == INFO else self._session.answer_filter(self.encryption)
        return frames.req_frame(name, wanted)

    def request(
        self, method: str, params: Mapping[str, object], *, now: int, expires_at: int, nonce: bytes, aux: bytes
    ) -> Event:
        """A request whose answer is awaited until `forget`; as WalletSession.request."""
        encryption = self.encryption
        event = self._session.request(
            method, params, encryption, created_at=now, expires_at=expires_at, nonce=nonce, aux=aux
        )
        self._waiting[event.id] = encryption
        return event

    def forget(self, request: str) -> None:
        """Await the answer to this request no more."""
        self._waiting.pop(request, None)

    def take(self, message: frames.RelayMessage, *, now: int, aux: bytes) -> list[Step]:
        """What follows from a message; `aux` are 32 random bytes. Raises InvalidInput for an event that is forged."""
        match message:
            case frames.EventMessage(subscription=name, event=event) if name == INFO:
                return self._take_info(event)
            case frames.EventMessage(subscription=name, event=event) if name == ANSWERS:
                return self._take_answer(event)
            case frames.EoseMessage(subscription=name) if name in (INFO, ANSWERS):
                self.nonsense = 0
                self._ready.add(name)
                return [Ready(name)]
            case frames.OkMessage(id=id, accepted=accepted):
                return self._take_ok(id, accepted)
            case frames.AuthMessage(challenge=challenge):
                event = self._session.auth(self._url, challenge, created_at=now, aux=aux)
                self._auth = event.id
                return [Send(frames.auth_frame(event))]
            case frames.ClosedMessage(subscription=name, message=reason) if name in (INFO, ANSWERS):
                if not reason.startswith("auth-required:"):
                    return [Leave()]
                self._closed.add(name)
                return self._resubscribe() if self._authenticated else []
            case _:
                return []

    def _take_info(self, event: Event) -> list[Step]:
        info = self._session.read_info(event)
        if info is None or (self.info is not None and info.since < self.info.since):
            return []
        before, self.info = self.encryption, info
        self.nonsense = 0
        return [Send(self.subscribe(ANSWERS))] if self.encryption is not before and INFO in self._ready else []

    def _take_answer(self, event: Event) -> list[Step]:
        request = tag_value(event, "e") or ""
        encryption = self._waiting.get(request)
        if encryption is None:
            payment = self._session.read_notification(event)
            if payment is None:
                return []
            self.nonsense = 0
            return [Received(payment)]
        try:
            response = self._session.read_response(event, encryption)
        except InvalidPayload:
            # Signed by the wallet, and not to be read: waiting longer would not help.
            return [Unanswered(request, taken=True)]
        if response is None:
            return []
        self.nonsense = 0
        return [Answer(request, response)]

    def _take_ok(self, id: str, accepted: bool) -> list[Step]:
        if id == self._auth:
            if not accepted:
                return [Leave()]
            self._authenticated = True
            return self._resubscribe()
        return [Unanswered(id, taken=False)] if not accepted and id in self._waiting else []

    def _resubscribe(self) -> list[Step]:
        """Ask again for what the relay would not send to a stranger."""
        if self._closed:
            self._resent += 1
        if self._resent > RESENT:
            return [Leave()]
        closed, self._closed = sorted(self._closed), set()
        return [Send(self.subscribe(name)) for name in closed]
