"""Any wallet with Nostr Wallet Connect (NIP-47), reached over the relays that its link names.

    open    connect ▶ the wallet's info event (what it can, how it encrypts) ▶ subscribe to what it writes to us
    ask     EVENT 23194 ▶ relay ▶ wallet         ◀ EVENT 23195, matched by the id of the request
    received                                     ◀ EVENT 23197 or 23196

One relay at a time, the next one when it fails. NIP-44 is spoken; NIP-04 only to a wallet that says it knows nothing
else. The relay is a stranger: what the wallet did not sign is dropped, frames are bounded, and one that sends only what
nobody asked for is left. The link is a secret and is shown nowhere.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

from pennypost.lightning import ASKING, PAYING, Made, Paid, Received, Stage, check_made, proves
from pennypost.protocol import frames, nip47
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.errors import (
    InvalidInput,
    InvalidPayload,
    OfficeMisbehaves,
    OfficeUnreachable,
    PaymentFailed,
    PaymentUnknown,
    WalletCannot,
    WalletError,
    WalletRefuses,
    WalletUnreachable,
)
from pennypost.protocol.event import Event, tag_value
from pennypost.protocol.nip47 import Encryption, Progress, Transaction, WalletInfo, WalletLink, WalletResponse
from pennypost.transport import Transport, WebSocket

FRAME_LIMIT: Final = 256 * 1024
"""Bytes of a frame; wallets write up to 64 KiB (NIP-47, Metadata)."""
WAITING: Final = 64
"""Most requests under way."""
UNREAD: Final = 1_000
"""Most notifications that wait to be read; the oldest goes first."""
NONSENSE: Final = 1_000
"""Frames in a row that nobody asked for before the relay is left."""
STALE: Final = 60
"""Seconds past our own patience that a request may still be acted on: clocks differ."""

_INFO, _ANSWERS = "info", "answers"

REFUSALS: Final = {
    "NOT_IMPLEMENTED": WalletCannot,
    "RATE_LIMITED": WalletUnreachable,
    "INSUFFICIENT_BALANCE": PaymentFailed,
    "QUOTA_EXCEEDED": WalletRefuses,
    "RESTRICTED": WalletRefuses,
    "UNAUTHORIZED": WalletRefuses,
    "UNSUPPORTED_ENCRYPTION": WalletCannot,
}
"""Error codes after which certainly nothing was paid (NIP-47, Error codes)."""


class NwcWallet:
    """The wallet of one link, at whichever of its relays it is found."""

    late = int(PAYING) + 2 * STALE

    def __init__(self, link: WalletLink, transport: Transport, *, clock: Callable[[], float] = time.time) -> None:
        """Nothing is dialled yet."""
        self._session, self._transport, self._clock = nip47.WalletSession(link), transport, clock
        self._relay = 0
        self._line: _Line | None = None
        self._opening = asyncio.Lock()

    def __repr__(self) -> str:
        return "NwcWallet()"

    async def pay(self, request: str, *, max_fee_msat: int, timeout: float = PAYING) -> Paid:
        """As Wallet.pay. NIP-47 has no limit for fees: the wallet's own holds."""
        payment_hash = parse_invoice(request).payment_hash
        order = {"invoice": request.strip().removeprefix("lightning:")}
        return await self._send(nip47.PAY_INVOICE, order, payment_hash, timeout)

    async def keysend(self, node: bytes, msat: int, records: Mapping[int, bytes], preimage: bytes) -> Paid:
        """As Wallet.keysend."""
        order = {
            "amount": msat,
            "pubkey": node.hex(),
            "preimage": preimage.hex(),
            "tlv_records": [{"type": number, "value": value.hex()} for number, value in records.items()],
        }
        return await self._send(nip47.PAY_KEYSEND, order, sha256(preimage).digest(), PAYING)

    async def _send(self, method: str, order: Mapping[str, object], payment_hash: bytes, timeout: float) -> Paid:
        line = await self._opened()
        line.must_have(method)
        try:
            response = await line.ask(method, order, timeout)
        except (TimeoutError, _Broken):
            raise PaymentUnknown from None
        if response.error is not None:
            refusal = REFUSALS.get(response.error)
            if refusal is not None:
                raise refusal
            # PAYMENT_FAILED "may be due to a timeout" (NIP-47): the wallet's books tell.
            found = await self.payment(payment_hash)
            if found is None:
                raise PaymentFailed
            return found
        try:
            preimage, fees = response.payment()
        except InvalidPayload:
            raise PaymentUnknown("the wallet's answer cannot be read") from None
        if not proves(preimage, payment_hash):
            raise PaymentUnknown("the wallet shows another preimage than that of the invoice")
        return Paid(preimage, fees)

    async def payment(self, payment_hash: bytes) -> Paid | None:
        """As Wallet.payment."""
        response = await self._ask(nip47.LOOKUP_INVOICE, {"payment_hash": payment_hash.hex()})
        if response.error == nip47.NOT_FOUND:
            return None
        if response.error is not None:
            raise PaymentUnknown("the wallet does not tell")
        found = _transaction(response)
        if found.progress is Progress.OVER:
            return None
        if found.type == "incoming" or found.progress is not Progress.SETTLED or found.preimage is None:
            raise PaymentUnknown
        preimage = _hex32(found.preimage)
        if preimage is None or not proves(preimage, payment_hash):
            raise PaymentUnknown("the wallet shows another preimage than that of the invoice")
        return Paid(preimage, found.fees_paid or 0)

    async def make_invoice(
        self,
        msat: int,
        *,
        description: str = "",
        description_hash: bytes | None = None,
        expiry: int = 3600,
        preimage: bytes | None = None,
        hold: bool = False,
    ) -> Made:
        """As Wallet.make_invoice; a preimage can be set where the wallet has hold invoices, and has to be settled."""
        order: dict[str, object] = {"amount": msat, "expiry": expiry}
        if description_hash is None:
            order["description"] = description
        else:
            order["description_hash"] = description_hash.hex()
        hold, payment_hash = hold or preimage is not None, None
        if hold:
            preimage = preimage or secrets.token_bytes(32)
            payment_hash = sha256(preimage).digest()
            order["payment_hash"] = payment_hash.hex()
        response = _good(await self._ask(nip47.MAKE_HOLD_INVOICE if hold else nip47.MAKE_INVOICE, order))
        found = _transaction(response)
        made = check_made(found.invoice or "", msat, payment_hash, description_hash)
        shown = None if hold or found.preimage is None else _hex32(found.preimage)
        if shown is not None and not proves(shown, made.payment_hash):
            shown = None
        return Made(found.invoice or "", made.payment_hash, made.expires_at, shown, hold)

    async def invoice(self, payment_hash: bytes) -> tuple[Stage, int]:
        """As Wallet.invoice."""
        response = await self._ask(nip47.LOOKUP_INVOICE, {"payment_hash": payment_hash.hex()})
        if response.error == nip47.NOT_FOUND:
            return Stage.OVER, 0
        found = _transaction(_good(response))
        if found.type == "outgoing" or found.payment_hash not in (None, payment_hash.hex()):
            raise WalletError("it tells of another payment")
        if found.held:
            return Stage.HELD, found.amount or 0
        stages = {Progress.SETTLED: Stage.SETTLED, Progress.OVER: Stage.OVER, Progress.PENDING: Stage.OPEN}
        stage = stages[found.progress]
        return stage, (found.amount or 0) if stage is Stage.SETTLED else 0

    async def settle(self, preimage: bytes) -> None:
        """As Wallet.settle."""
        response = await self._ask(nip47.SETTLE_HOLD_INVOICE, {"preimage": preimage.hex()})
        if response.error is not None and (await self.invoice(sha256(preimage).digest()))[0] is not Stage.SETTLED:
            _good(response)

    async def cancel(self, payment_hash: bytes) -> None:
        """As Wallet.cancel."""
        _good(await self._ask(nip47.CANCEL_HOLD_INVOICE, {"payment_hash": payment_hash.hex()}))

    async def balance(self) -> int:
        """As Wallet.balance."""
        try:
            return _good(await self._ask(nip47.GET_BALANCE, {})).balance()
        except InvalidPayload as error:
            raise WalletError(error.detail) from None

    async def info(self) -> nip47.WalletState:
        """What the wallet says of itself (NIP-47, get_info). Raises WalletError."""
        try:
            return _good(await self._ask(nip47.GET_INFO, {})).state()
        except InvalidPayload as error:
            raise WalletError(error.detail) from None

    async def received(self) -> AsyncGenerator[Received]:
        """As Wallet.received. Raises WalletCannot where the wallet does not tell of payments."""
        line = await self._opened()
        if line.info is not None and nip47.PAYMENT_RECEIVED not in line.info.notifications:
            raise WalletCannot("it does not tell of payments")
        async for found in line.payments():
            if found.payment_hash is not None and found.type != "outgoing":
                payment_hash = bytes.fromhex(found.payment_hash)
                yield Received(payment_hash, found.amount or 0, found.comment, found.records)

    async def close(self) -> None:
        """As Wallet.close."""
        if self._line is not None:
            await self._line.close()

    async def _ask(self, method: str, params: Mapping[str, object]) -> WalletResponse:
        line = await self._opened()
        line.must_have(method)
        try:
            return await line.ask(method, params, ASKING)
        except (TimeoutError, _Broken):
            # Nobody answers there: another relay, the next time.
            self._relay += 1
            await line.close()
            raise WalletUnreachable from None

    async def _opened(self) -> _Line:
        async with self._opening:
            if self._line is not None and self._line.alive:
                return self._line
            relays = self._session.link.relays
            for place in range(len(relays)):
                url = relays[(self._relay + place) % len(relays)]
                with suppress(WalletUnreachable):
                    self._line = await _Line.open(self._session, self._transport, url, self._clock)
                    self._relay += place
                    return self._line
            self._relay += 1
            raise WalletUnreachable


class _Broken(WalletUnreachable):
    """The line ended after the request was sent."""


class _Line:
    """One WebSocket. `alive` until it broke; then everybody who waits has been told."""

    def __init__(self, session: nip47.WalletSession, url: str, socket: WebSocket, clock: Callable[[], float]) -> None:
        self.alive = True
        self.info: WalletInfo | None = None
        self._session, self._url, self._socket, self._clock = session, url, socket, clock
        self._waiting: dict[str, tuple[asyncio.Future[WalletResponse], Encryption]] = {}
        self._listeners: set[asyncio.Queue[Transaction | None]] = set()
        self._complete = {name: asyncio.Event() for name in (_INFO, _ANSWERS)}
        self._closed: set[str] = set()
        self._auth: str | None = None
        self._resent = self._nonsense = 0
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, session: nip47.WalletSession, transport: Transport, url: str, clock: Callable[[], float]
    ) -> _Line:
        """A line whose subscriptions the relay has taken. Raises WalletUnreachable."""
        try:
            socket = await transport.websocket("http" + url.removeprefix("ws"), limit=FRAME_LIMIT, timeout=ASKING)
        except (OfficeUnreachable, OfficeMisbehaves):
            raise WalletUnreachable("its relay does not answer") from None
        line = cls(session, url, socket, clock)
        try:
            for name in (_INFO, _ANSWERS):
                await line._subscribe(name)
                async with asyncio.timeout(ASKING):
                    await line._complete[name].wait()
                if not line.alive:
                    raise WalletUnreachable("its relay does not answer")
        except (TimeoutError, OfficeUnreachable):
            await line.close()
            raise WalletUnreachable("its relay does not answer") from None
        except BaseException:
            await line.close()
            raise
        return line

    @property
    def _encryption(self) -> Encryption:
        return Encryption.NIP44 if self.info is None else self.info.encryption

    def must_have(self, method: str) -> None:
        """Raises WalletCannot for what the wallet says it does not do."""
        if self.info is not None and self.info.methods and method not in self.info.methods:
            raise WalletCannot(f"it does not offer {method}")

    async def ask(self, method: str, params: Mapping[str, object], seconds: float) -> WalletResponse:
        """Raises WalletUnreachable where nothing was sent or the relay refused it, else _Broken or TimeoutError."""
        if len(self._waiting) >= WAITING:
            raise WalletUnreachable("too much waits for its answers")
        now, encryption = int(self._clock()), self._encryption
        event = self._session.request(
            method,
            params,
            encryption,
            created_at=now,
            expires_at=now + int(seconds) + STALE,
            nonce=secrets.token_bytes(32),
            aux=secrets.token_bytes(32),
        )
        answer: asyncio.Future[WalletResponse] = asyncio.get_running_loop().create_future()
        self._waiting[event.id] = answer, encryption
        try:
            async with asyncio.timeout(seconds):
                try:
                    await self._socket.send(frames.event_frame(event))
                except OfficeUnreachable:
                    raise _Broken from None
                return await answer
        finally:
            del self._waiting[event.id]
            if answer.done() and not answer.cancelled():
                answer.exception()

    async def payments(self) -> AsyncIterator[Transaction]:
        """Payments as the wallet tells of them. Raises WalletUnreachable when the line breaks."""
        queue: asyncio.Queue[Transaction | None] = asyncio.Queue(UNREAD)
        self._listeners.add(queue)
        try:
            while self.alive and (found := await queue.get()) is not None:
                yield found
        finally:
            self._listeners.discard(queue)
        raise WalletUnreachable

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.wait({self._reader})
        await self._socket.close()

    async def _subscribe(self, name: str) -> None:
        session = self._session
        wanted = session.info_filter() if name == _INFO else session.answer_filter(self._encryption)
        await self._socket.send(frames.req_frame(name, wanted))

    async def _read(self) -> None:
        try:
            while self._nonsense < NONSENSE:
                text = await self._socket.receive()
                self._nonsense += 1
                with suppress(InvalidInput):
                    await self._take(frames.parse_relay_frame(text))
        except (OfficeUnreachable, OfficeMisbehaves):
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.alive = False
        for answer, _ in self._waiting.values():
            if not answer.done():
                answer.set_exception(_Broken())
        for queue in self._listeners:
            _offer(queue, None)
        for complete in self._complete.values():
            complete.set()

    async def _take(self, message: frames.RelayMessage) -> None:
        match message:
            case frames.EventMessage(subscription=name, event=event) if name == _INFO:
                await self._take_info(event)
            case frames.EventMessage(subscription=name, event=event) if name == _ANSWERS:
                self._take_answer(event)
            case frames.EoseMessage(subscription=name) if name in self._complete:
                self._complete[name].set()
                self._nonsense = 0
            case frames.OkMessage(id=id, accepted=accepted):
                await self._take_ok(id, accepted)
            case frames.AuthMessage(challenge=challenge):
                await self._authenticate(challenge)
            case frames.ClosedMessage(subscription=name, message=reason) if name in self._complete:
                if not reason.startswith("auth-required:") or self._resent > len(self._complete):
                    raise OfficeMisbehaves("it refuses the subscription")
                self._closed.add(name)
            case _:
                return

    async def _take_info(self, event: Event) -> None:
        info = self._session.read_info(event)
        if info is None or (self.info is not None and info.since < self.info.since):
            return
        before, self.info = self._encryption, info
        self._nonsense = 0
        if self._encryption is not before and self._complete[_INFO].is_set():
            await self._subscribe(_ANSWERS)

    def _take_answer(self, event: Event) -> None:
        waiting = self._waiting.get(tag_value(event, "e") or "")
        if waiting is None:
            if (payment := self._session.read_notification(event)) is not None:
                self._nonsense = 0
                for queue in self._listeners:
                    _offer(queue, payment)
            return
        answer, encryption = waiting
        try:
            response = self._session.read_response(event, encryption)
        except InvalidPayload:
            # Signed by the wallet, and not to be read: waiting longer would not help.
            if not answer.done():
                answer.set_exception(_Broken())
            return
        if response is not None and not answer.done():
            self._nonsense = 0
            answer.set_result(response)

    async def _take_ok(self, id: str, accepted: bool) -> None:
        if id == self._auth and accepted:
            while self._closed:
                self._resent += 1
                await self._subscribe(self._closed.pop())
        elif not accepted and id in self._waiting:
            answer, _ = self._waiting[id]
            if not answer.done():
                answer.set_exception(WalletUnreachable("its relay does not take the request"))

    async def _authenticate(self, challenge: str) -> None:
        now = int(self._clock())
        event = self._session.auth(self._url, challenge, created_at=now, aux=secrets.token_bytes(32))
        self._auth = event.id
        await self._socket.send(frames.auth_frame(event))


def _offer(queue: asyncio.Queue[Any], found: Transaction | None) -> None:
    """Puts it in; a queue that is full loses its oldest."""
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(found)


def _good(response: WalletResponse) -> WalletResponse:
    if response.error is not None:
        raise REFUSALS.get(response.error, WalletError)
    return response


def _transaction(response: WalletResponse) -> Transaction:
    try:
        return response.transaction()
    except InvalidPayload as error:
        raise WalletError(error.detail) from None


def _hex32(text: str) -> bytes | None:
    if len(text) != 64 or not all(digit in "0123456789abcdef" for digit in text):
        return None
    return bytes.fromhex(text)
