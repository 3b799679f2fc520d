"""A relay with a wallet behind it, both doing what a test says: the wallet's side of NIP-47, honest or not."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from hashlib import sha256
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pennypost.protocol import frames, nip04, nip44, secp
from pennypost.protocol.bolt11 import parse_invoice
from pennypost.protocol.bolt11_writer import write_invoice
from pennypost.protocol.event import Event, parse_event, sign_event, tag_value
from pennypost.protocol.filter import Filter, matches, parse_filter
from pennypost.protocol.nip47 import WalletLink, encode_link
from tests.support.ports import free_port
from tests.support.relay import plain

METHODS = (
    "make_invoice lookup_invoice pay_invoice pay_keysend get_balance get_info"
    " make_hold_invoice settle_hold_invoice cancel_hold_invoice"
)


class ScriptedWallet:
    """Everything public may be changed by a test while it serves."""

    def __init__(self) -> None:
        self.secret, self.client = (secrets.token_bytes(31).rjust(32, b"\1") for _ in range(2))
        self.port = free_port()
        self.url = f"ws://127.0.0.1:{self.port}"
        self.link = WalletLink(secp.xonly(self.secret), self.client, (self.url,))
        self.uri = encode_link(self.link)
        self.info_tags: list[list[str]] | None = [["encryption", "nip44_v2"], ["notifications", "payment_received"]]
        """None: the relay has no info event."""
        self.invoices: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.encryptions: list[str] = []
        self.results: dict[str, Any] = {}
        """What to answer instead of the truth, by method: a result, or {"error": …}."""
        self.silent = False
        self.refuse = ""
        """What the relay says to every request, instead of passing it on."""
        self.needs_auth = False
        self.authenticated: list[Event] = []
        self.noise: list[str] = []
        """Frames sent before each answer."""
        self.connections: set[ServerConnection] = set()
        self.opened = 0
        self.preimages: dict[str, bytes] = {}
        """Of the invoices that it can pay, by payment hash."""
        self._subscriptions: dict[ServerConnection, dict[str, Filter]] = {}
        self._server: Server | None = None

    async def start(self) -> None:
        self._server = await serve(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """As a killed relay."""
        if self._server is not None:
            for connection in list(self.connections):
                connection.transport.abort()
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def cut(self) -> None:
        """Every connection ends; new ones are taken."""
        for connection in list(self.connections):
            connection.transport.abort()

    def pay(self, payment_hash: bytes, msat: int) -> dict[str, Any]:
        """The wallet receives so much; `tell` says so."""
        invoice = self.invoices[payment_hash.hex()]
        invoice |= {"state": "settled", "settled_at": int(time.time()), "amount": msat}
        return invoice

    async def tell(self, transaction: dict[str, Any], *, name: str = "payment_received", kind: int = 23197) -> None:
        """A notification to whoever listens."""
        text = json.dumps({"notification_type": name, "notification": transaction})
        content = self.encrypt(text, "nip44_v2" if kind == 23197 else "nip04")
        await self.publish(self.event(kind, content, [["p", secp.xonly(self.client).hex()]]))

    async def publish(self, event: Event, *, to_all: bool = False) -> None:
        """An event to all subscriptions that want it; to every subscription with `to_all`."""
        for connection, subscriptions in list(self._subscriptions.items()):
            for name, wanted in subscriptions.items():
                if to_all or matches(wanted, event):
                    await connection.send(json.dumps(["EVENT", name, plain(event)]))

    def event(self, kind: int, content: str, tags: list[list[str]], *, key: bytes | None = None) -> Event:
        return sign_event(
            key or self.secret,
            created_at=int(time.time()),
            kind=kind,
            tags=tags,
            content=content,
            aux=secrets.token_bytes(32),
        )

    def encrypt(self, text: str, encryption: str) -> str:
        public = secp.xonly(self.client)
        if encryption == "nip04":
            return nip04.encrypt(text, secp.ecdh_x(self.secret, public), secrets.token_bytes(16))
        return nip44.encrypt(text, nip44.conversation_key(self.secret, public), secrets.token_bytes(32))

    def info(self) -> Event | None:
        return None if self.info_tags is None else self.event(13194, METHODS, self.info_tags)

    async def _serve(self, connection: ServerConnection) -> None:
        self.opened += 1
        self.connections.add(connection)
        self._subscriptions[connection] = {}
        try:
            if self.needs_auth:
                await connection.send(json.dumps(["AUTH", "challenge"]))
            async for text in connection:
                await self._take(connection, json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self.connections.discard(connection)
            del self._subscriptions[connection]

    async def _take(self, connection: ServerConnection, frame: list[Any]) -> None:
        match frame:
            case ["AUTH", event]:
                self.authenticated.append(parse_event(event))
                await connection.send(frames.ok_message(event["id"], True, ""))
            case ["REQ", name, wanted] if self.needs_auth and not self.authenticated:
                await connection.send(json.dumps(["CLOSED", name, "auth-required: who are you?"]))
            case ["REQ", name, wanted]:
                await self._subscribe(connection, name, parse_filter(wanted))
            case ["EVENT", event] if self.refuse:
                await connection.send(frames.ok_message(event["id"], False, self.refuse))
            case ["EVENT", event]:
                await connection.send(frames.ok_message(event["id"], True, ""))
                await self._answer(parse_event(event))
            case _:
                raise AssertionError(frame)

    async def _subscribe(self, connection: ServerConnection, name: str, wanted: Filter) -> None:
        self._subscriptions[connection][name] = wanted
        info = self.info()
        if info is not None and matches(wanted, info):
            await connection.send(json.dumps(["EVENT", name, plain(info)]))
        await connection.send(json.dumps(["EOSE", name]))

    async def _answer(self, request: Event) -> None:
        encryption = tag_value(request, "encryption") or "nip04"
        self.encryptions.append(encryption)
        public = secp.xonly(self.client)
        text = (
            nip04.decrypt(request.content, secp.ecdh_x(self.secret, public))
            if encryption == "nip04"
            else nip44.decrypt(request.content, nip44.conversation_key(self.secret, public))
        )
        asked = json.loads(text)
        self.requests.append((asked["method"], asked["params"]))
        if self.silent:
            return
        for noise in self.noise:
            for connection in list(self.connections):
                await connection.send(noise)
        value = self.results.get(asked["method"]) or self._do(asked["method"], asked["params"])
        answer = {"result_type": asked["method"], "error": None, "result": None}
        answer |= value if "error" in value or "result" in value else {"result": value}
        tags = [["p", request.pubkey], ["e", request.id]]
        await self.publish(self.event(23195, self.encrypt(json.dumps(answer), encryption), tags))

    def _do(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "lookup_invoice":
                found = self.invoices.get(params["payment_hash"])
                return found or {"error": {"code": "NOT_FOUND", "message": "secret words"}}
            case "pay_invoice":
                return self._pay(params["invoice"])
            case "pay_keysend":
                return {"preimage": params["preimage"], "fees_paid": 3}
            case "get_balance":
                return {"balance": 77_000}
            case "get_info":
                return {"alias": "scripted", "network": "regtest", "methods": METHODS.split()}
            case "settle_hold_invoice":
                preimage = bytes.fromhex(params["preimage"])
                self.invoices[sha256(preimage).hexdigest()] |= {"state": "settled", "settled_at": 1}
                return {"result": {}}
            case "cancel_hold_invoice":
                self.invoices[params["payment_hash"]] |= {"state": "expired"}
                return {"result": {}}
            case _:
                return self._make(params)

    def _pay(self, request: str) -> dict[str, Any]:
        """Any invoice whose preimage a test has put into `preimages`."""
        payment_hash = parse_invoice(request).payment_hash.hex()
        preimage = self.preimages.get(payment_hash)
        if preimage is None:
            return {"error": {"code": "PAYMENT_FAILED", "message": "secret words"}}
        self.invoices[payment_hash] = {
            "type": "outgoing",
            "state": "settled",
            "payment_hash": payment_hash,
            "preimage": preimage.hex(),
            "fees_paid": 7,
        }
        return {"preimage": preimage.hex(), "fees_paid": 7}

    def _make(self, params: dict[str, Any]) -> dict[str, Any]:
        now, preimage = int(time.time()), secrets.token_bytes(32)
        payment_hash = bytes.fromhex(params.get("payment_hash") or sha256(preimage).hexdigest())
        described = params.get("description_hash")
        request = write_invoice(
            self.secret,
            params["amount"],
            payment_hash,
            secrets.token_bytes(32),
            bytes.fromhex(described) if described else params["description"],
            now,
            params["expiry"],
        )
        self.invoices[payment_hash.hex()] = {
            "type": "incoming",
            "state": "pending",
            "invoice": request,
            "payment_hash": payment_hash.hex(),
            "amount": params["amount"],
            "created_at": now,
            "expires_at": now + params["expiry"],
        }
        return self.invoices[payment_hash.hex()]


async def condition(check: Any, seconds: float = 20) -> None:
    """Waits until `check()` is true."""
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.005)
