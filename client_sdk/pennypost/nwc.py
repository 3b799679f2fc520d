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
from pennypost.protocol.nip47 import Progress, Transaction, WalletInfo, WalletLink, WalletResponse
from pennypost.protocol.nip47_line import (
    ANSWERS,
    INFO,
    NONSENSE,
    Answer,
    Leave,
    LineState,
    Ready,
    Send,
    Step,
    Unanswered,
)
from pennypost.protocol.nip47_line import Received as PaymentReceived
from pennypost.transport import Transport, WebSocket

FRAME_LIMIT: Final = 256 * 1024
"""Bytes of a frame; wallets write up to 64 KiB (NIP-47, Metadata)."""
WAITING: Final = 64
"""Most requests under way."""
UNREAD: Final = 1_000
"""Most notifications that wait to be read; the oldest goes first."""
STALE: Final = 60
"""Seconds past our own patience that a request may still be acted on: clocks differ."""

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

    async def methods(self) -> frozenset[str]:
        """What the wallet lets this connection do, by its own word (NIP-47, get_info, else its info event).

        Empty where it says nothing. Raises WalletRefuses for a connection that it takes no more, WalletUnreachable.
        """
        info = (await self._opened()).info
        said = frozenset[str]() if info is None else info.methods
        try:
            return frozenset((await self.info()).methods) or said
        except WalletCannot:
            return said

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
        self._state = LineState(session, url)
        self._socket, self._clock = socket, clock
        self._waiting: dict[str, asyncio.Future[WalletResponse]] = {}
        self._listeners: set[asyncio.Queue[Transaction | None]] = set()
        self._ready = {name: asyncio.Event() for name in (INFO, ANSWERS)}
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
            for name, ready in line._ready.items():
                await socket.send(line._state.subscribe(name))
                async with asyncio.timeout(ASKING):
                    await ready.wait()
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
    def info(self) -> WalletInfo | None:
        """The wallet's own word, where its relay has it."""
        return self._state.info

    def must_have(self, method: str) -> None:
        """Raises WalletCannot for what the wallet says it does not do."""
        if self.info is not None and self.info.methods and method not in self.info.methods:
            raise WalletCannot(f"it does not offer {method}")

    async def ask(self, method: str, params: Mapping[str, object], seconds: float) -> WalletResponse:
        """Raises WalletUnreachable where nothing was sent or the relay refused it, else _Broken or TimeoutError."""
        if self._state.waiting >= WAITING:
            raise WalletUnreachable("too much waits for its answers")
        now = int(self._clock())
        nonce, aux = secrets.token_bytes(32), secrets.token_bytes(32)
        event = self._state.request(
            method, params, now=now, expires_at=now + int(seconds) + STALE, nonce=nonce, aux=aux
        )
        answer: asyncio.Future[WalletResponse] = asyncio.get_running_loop().create_future()
        self._waiting[event.id] = answer
        try:
            async with asyncio.timeout(seconds):
                try:
                    await self._socket.send(frames.event_frame(event))
                except OfficeUnreachable:
                    raise _Broken from None
                return await answer
        finally:
            self._state.forget(event.id)
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

    async def _read(self) -> None:
        try:
            while self._state.nonsense < NONSENSE:
                text = await self._socket.receive()
                self._state.nonsense += 1
                with suppress(InvalidInput):
                    message = frames.parse_relay_frame(text)
                    for step in self._state.take(message, now=int(self._clock()), aux=secrets.token_bytes(32)):
                        await self._follow(step)
        except (OfficeUnreachable, OfficeMisbehaves):
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.alive = False
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(_Broken())
        for queue in self._listeners:
            _offer(queue, None)
        for ready in self._ready.values():
            ready.set()

    async def _follow(self, step: Step) -> None:
        match step:
            case Send(frame):
                await self._socket.send(frame)
            case Ready(name):
                self._ready[name].set()
            case Answer(request, response):
                if not (answer := self._waiting[request]).done():
                    answer.set_result(response)
            case Unanswered(request, taken):
                if not (answer := self._waiting[request]).done():
                    refused = WalletUnreachable("its relay does not take the request")
                    answer.set_exception(_Broken() if taken else refused)
            case PaymentReceived(payment):
                for queue in self._listeners:
                    _offer(queue, payment)
            case Leave():
                raise OfficeMisbehaves("it refuses the subscription")


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
