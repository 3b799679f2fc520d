"""A mint, as a wallet speaks to it: every answer is checked before anybody believes it.

    info NUT-06 · keysets NUT-01, 02 · quote, mint NUT-04, 20, 23 · swap NUT-03 · states NUT-07 · restore NUT-09

A keyset counts only when its id follows from its keys; a signature only with the right keyset and amount and a DLEQ
proof by that key (NUT-12), so that a mint cannot mark a stamp to know it again. Refusals of the mint are `MintError`s
by their NUT number; all else that is wrong is `OfficeMisbehaves`, `OfficeUnreachable`, `TooMany` or `ServerError`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from pennypost import orders
from pennypost.orders import Keyset, Output
from pennypost.protocol import answers, bdhke, nuts, secp
from pennypost.protocol.answers import BlindedMessage, BlindSignature, encode, read_answer
from pennypost.protocol.errors import (
    TABLE,
    InvalidInput,
    KeysetUnknown,
    MintError,
    OfficeMisbehaves,
    OfficeUnreachable,
    QuoteSignature,
    ServerError,
    TooMany,
)
from pennypost.protocol.keyset import is_keyset_id
from pennypost.protocol.token import Proof
from pennypost.store import Store
from pennypost.transport import Transport, parse_address

UNIT: Final = "sat"
BATCH: Final = 100
"""Ys or outputs of one question; every mint takes as many."""
MAX_REQUEST: Final = 4_096
"""Characters of a BOLT11 invoice; a QR code holds 4,296."""

_QUOTE: Final = re.compile(r"[A-Za-z0-9_-]{8,128}")
_BOLT11: Final = re.compile(r"ln[a-z]{2,8}?(?:([1-9][0-9]{0,17})([munp]?))?1[02-9ac-hj-np-z]{100,}")
_MSAT: Final = {"": 100_000_000_000, "m": 100_000_000, "u": 100_000, "n": 100}
"""Millisatoshi of one unit of a BOLT11 amount; `p` is a tenth of one."""

_BY_NUMBER: Final = {each.cashu: each for each in reversed(TABLE) if issubclass(each, MintError)}

A = TypeVar("A", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Quote:
    """A mint's offer to sell stamps (NUT-23): `request` is the BOLT11 to pay, `expiry` Unix seconds or None."""

    quote: str
    request: str
    expiry: int | None
    paid: bool
    """Whether stamps can be had for it now."""
    issued: bool
    """Whether its stamps were given out."""


class MintClient:
    """One mint at one configured address, or that of a post office which stands apart from its mint.

    The wallet's stamps are kept under `url` either way.
    """

    def __init__(
        self,
        url: str,
        transport: Transport,
        store: Store,
        named: Callable[[], Awaitable[Sequence[str]]] | None = None,
    ) -> None:
        """`url` as `parse_address` gives it; `named` tells the mints of the post office there, ours first."""
        self.url = url
        self._transport, self._store = transport, store
        self._named = named
        self._address = url if named is None else None
        """Where the mint answers; None while that is not known."""
        self._keysets: dict[str, Keyset] = {}
        self._info: answers.MintInfo | None = None

    async def info(self) -> answers.MintInfo:
        """The mint's own words, asked once (NUT-06)."""
        if self._info is None:
            self._info = await self._get("/v1/info", answers.MintInfo)
        return self._info

    async def name(self, accepted: Sequence[str] = ()) -> str:
        """The address to write into tokens: ours, unless the mint goes by another (NUT-06, urls).

        A mint behind a proxy or an onion address has more than one; `accepted` are those that a post office takes.
        A mint that does not answer is called by our address.
        """
        names: list[str] = []
        with suppress(OfficeUnreachable, OfficeMisbehaves, ServerError, TooMany):
            names += [url for each in (await self.info()).urls or [] if (url := _address(each))]
        own = self._address or self.url
        names.insert(0, own)
        by_address = {_address(each): each for each in accepted}
        for each in names:
            if each in by_address:
                return by_address[each]
        return own if own in names[1:] or len(names) == 1 else names[1]

    async def address(self) -> str:
        """Where the mint answers: at our address, or where the post office there says (NIP-11, fees).

        Raises OfficeMisbehaves where no mint is named, or another one than the wallet's stamps are of.
        """
        if self._address is None:
            headers = {"accept": "application/json"}
            answer = await self._transport.request("GET", f"{self.url}/v1/keysets", headers=headers)
            self._address = await self._elsewhere() if answer.status == 404 else self.url
        return self._address

    async def _elsewhere(self) -> str:
        named = list(filter(None, map(_address, await self._named()))) if self._named is not None else []
        if not named:
            raise OfficeMisbehaves("this address does not answer as a mint does, and names none")
        known = await self._store.run(orders.keysets_on, self.url)
        answer = await self._transport.request("GET", f"{named[0]}/v1/keysets", headers={"accept": "application/json"})
        if answer.status != 200:
            raise OfficeUnreachable("the mint of this office has trouble of its own")
        listed = {each.id for each in read_answer(answer.body, answers.KeysetsAnswer).keysets}
        if known and listed.isdisjoint(known):
            # our stamps would be shown to a mint that did not make them
            raise OfficeMisbehaves("this office has another mint now; name the one of your stamps with --mint")
        return named[0]

    async def keysets(self, refresh: bool = False) -> Mapping[str, Keyset]:
        """All keysets by id, of every unit, from the store or the mint; `refresh` asks the mint again (NUT-02)."""
        if not self._keysets:
            self._keysets = await self._store.run(orders.keysets_on, self.url)
        if refresh or not self._keysets:
            self._keysets = await self._fetch_keysets()
        return self._keysets

    async def active(self, now: int) -> Keyset:
        """The keyset for new stamps: unit sat, active, not expired, the lowest fee, version 2 before version 1."""
        for refresh in (False, True):
            found = [
                each
                for each in (await self.keysets(refresh)).values()
                if each.unit == UNIT and each.active and not (each.final_expiry and each.final_expiry <= now)
            ]
            if found:
                return min(found, key=lambda each: (each.fee, each.id[:2] != "01", each.id))
        raise OfficeMisbehaves("the mint has no active keyset for sat")

    async def _fetch_keysets(self) -> dict[str, Keyset]:
        listed = (await self._get("/v1/keysets", answers.KeysetsAnswer)).keysets
        known = await self._store.run(orders.keysets_on, self.url)
        found: dict[str, Keyset] = {}
        for each in listed:
            # Ids of the first mints are of a form that no NUT describes any more: not for us, and no reason to refuse.
            if is_keyset_id(each.id):
                keys = known[each.id].keys if each.id in known else None
                found[each.id] = await self._keyset(each, keys)
        await self._store.run(orders.save_keysets_on, self.url, list(found.values()))
        return found

    async def _keyset(self, info: answers.KeysetInfo, keys: dict[int, bytes] | None) -> Keyset:
        if keys is None:
            answer = await self._get(f"/v1/keys/{info.id}", answers.KeysAnswer)
            fitting = [each for each in answer.keysets if each.id == info.id]
            if len(fitting) != 1:
                raise OfficeMisbehaves("it does not give the keys of a keyset")
            points = fitting[0].keys
        else:
            points = {str(amount): key.hex() for amount, key in keys.items()}
        # Checked with the listed fee and expiry: in a version 2 id they are part of what must fit.
        checked = answers.keys_of(
            answers.KeysetKeys(info.id, info.unit, points, info.active, info.input_fee_ppk, info.final_expiry)
        )
        return Keyset(info.id, self.url, info.unit, info.active, info.input_fee_ppk or 0, info.final_expiry, checked)

    async def quote(self, amount: int, key: bytes) -> Quote:
        """Ask for an invoice over `amount` sat, locked to the 32-byte secret `key` (NUT-23, NUT-20)."""
        pubkey = secp.point(key).hex()
        body = encode(nuts.QuoteRequest(amount, UNIT, pubkey=pubkey))
        answer = await self._post("/v1/mint/quote/bolt11", body, answers.QuoteAnswer)
        if answer.amount not in (None, amount) or answer.unit != UNIT or answer.pubkey not in (None, pubkey):
            raise OfficeMisbehaves("a quote for something else than was asked")
        if bolt11_msat(answer.request) != amount * 1000:
            raise OfficeMisbehaves("an invoice over another amount than was asked")
        return _quote(answer)

    async def quote_state(self, quote: str) -> Quote:
        """How a quote stands (NUT-23). Raises QuoteUnknown among other MintErrors."""
        answer = await self._get(f"/v1/mint/quote/bolt11/{quote}", answers.QuoteAnswer)
        if answer.quote != quote:
            raise OfficeMisbehaves("the state of another quote than was asked")
        return _quote(answer)

    async def mint(self, quote: str, key: bytes, outputs: Sequence[Output]) -> list[BlindSignature]:
        """Blind signatures for a paid quote (NUT-04), the request signed with the quote's key (NUT-20)."""
        try:
            return await self._mint(quote, key, outputs, older=False)
        except QuoteSignature:
            # The message to sign was amended; a mint may know only the older one.
            return await self._mint(quote, key, outputs, older=True)

    async def _mint(self, quote: str, key: bytes, outputs: Sequence[Output], *, older: bool) -> list[BlindSignature]:
        messages = _messages(outputs)
        signature = nuts.sign_quote(key, quote, messages, secrets.token_bytes(32), older=older)
        body = encode(nuts.MintRequest(quote, messages, signature))
        answer = await self._post("/v1/mint/bolt11", body, answers.SignaturesAnswer)
        return await self._checked(outputs, answer.signatures)

    async def swap(self, inputs: Sequence[Proof], outputs: Sequence[Output]) -> list[BlindSignature]:
        """Blind signatures in exchange for proofs (NUT-03)."""
        # A witness goes only with a lock (NUT-10): on other stamps it would be a stranger's mark.
        bare = [
            Proof(each.amount, each.id, each.secret, each.C, each.witness if each.secret.startswith("[") else None)
            for each in inputs
        ]
        body = encode(nuts.SwapRequest(bare, _messages(outputs)))
        answer = await self._post("/v1/swap", body, answers.SignaturesAnswer)
        return await self._checked(outputs, answer.signatures)

    async def states(self, proofs: Sequence[Proof]) -> list[str]:
        """UNSPENT, PENDING or SPENT of each proof, in order (NUT-07)."""
        return [each.state for each in await self.looked_up(proofs)]

    async def looked_up(self, proofs: Sequence[Proof]) -> list[answers.ProofState]:
        """State of each proof, in order, with the witness of one that was locked and is spent (NUT-07)."""
        found: list[answers.ProofState] = []
        for start in range(0, len(proofs), BATCH):
            ys = [bdhke.hash_to_curve(each.secret.encode()).hex() for each in proofs[start : start + BATCH]]
            answer = await self._post("/v1/checkstate", encode(nuts.CheckStateRequest(ys)), answers.CheckStateAnswer)
            if [each.Y.lower() for each in answer.states] != ys:
                raise OfficeMisbehaves("the states of other proofs than were asked")
            found += answer.states
        return found

    async def restore(self, outputs: Sequence[Output]) -> list[BlindSignature | None]:
        """The signature of each output that the mint once signed, else None, in order (NUT-09).

        A DLEQ proof is checked where there is one: the inputs may be gone already, so an answer without is better than
        none. The amount is the mint's, not that of the output.
        """
        found: dict[str, BlindSignature] = {}
        asked = {each.b.hex(): each for each in outputs}
        for start in range(0, len(outputs), BATCH):
            body = encode(nuts.RestoreRequest(_messages(outputs[start : start + BATCH])))
            answer = await self._post("/v1/restore", body, answers.RestoreAnswer)
            if len(answer.outputs) != len(answer.signatures):
                raise OfficeMisbehaves("a restore whose parts do not match")
            for output, signature in zip(answer.outputs, answer.signatures, strict=True):
                wanted = asked.get(output.B_)
                if wanted is None or signature.id != wanted.keyset:
                    raise OfficeMisbehaves("a restore of outputs that were not asked")
                await self._check(wanted, signature, required=False)
                found[output.B_] = signature
        return [found.get(point) for point in asked]

    async def _checked(self, outputs: Sequence[Output], signatures: list[BlindSignature]) -> list[BlindSignature]:
        if len(outputs) != len(signatures):
            raise OfficeMisbehaves("another number of signatures than of outputs")
        for output, signature in zip(outputs, signatures, strict=True):
            if signature.id != output.keyset or signature.amount != output.amount:
                raise OfficeMisbehaves("a signature for something else than was asked")
            await self._check(output, signature, required=True)
        return signatures

    async def _check(self, output: Output, signature: BlindSignature, *, required: bool) -> None:
        keyset = (await self.keysets()).get(signature.id) or (await self.keysets(refresh=True)).get(signature.id)
        if keyset is None:
            raise KeysetUnknown
        key, C_ = keyset.keys.get(signature.amount), bytes.fromhex(signature.C_)
        if key is None or not secp.is_point(C_):
            raise OfficeMisbehaves("a signature with an impossible amount or point")
        if signature.dleq is None:
            if required:
                raise OfficeMisbehaves("a signature without the proof that its key is the same for everyone (DLEQ)")
            return
        e, s = bytes.fromhex(signature.dleq.e), bytes.fromhex(signature.dleq.s)
        if not bdhke.dleq_verify(key, output.b, C_, e, s):
            raise OfficeMisbehaves("a signature by another key than it published (DLEQ)")

    async def _get(self, path: str, kind: type[A]) -> A:
        return await self._call("GET", path, b"", kind)

    async def _post(self, path: str, body: bytes, kind: type[A]) -> A:
        return await self._call("POST", path, body, kind)

    async def _call(self, method: str, path: str, body: bytes, kind: type[A]) -> A:
        headers = {"accept": "application/json"} | ({"content-type": "application/json"} if body else {})
        # stamps are shown to nobody but their mint
        base = await self.address() if path == "/v1/swap" else self._address or self.url
        answer = await self._transport.request(method, base + path, headers=headers, body=body)
        if answer.status == 404 and self._address is None and (base := await self.address()) != self.url:
            answer = await self._transport.request(method, base + path, headers=headers, body=body)
        if answer.status == 200:
            self._address = base
            return read_answer(answer.body, kind)
        if answer.status == 429:
            raise TooMany
        if answer.status >= 500:
            raise ServerError("the mint has trouble of its own")
        if answer.status == 400:
            raise _BY_NUMBER.get(read_answer(answer.body, answers.ErrorAnswer).code, MintError)
        raise OfficeMisbehaves("this address does not answer as a mint does")


def unblind(keyset: Keyset, output: Output, signature: BlindSignature) -> Proof:
    """The proof of a checked signature (NUT-00, unblinding)."""
    C = bdhke.unblind(bytes.fromhex(signature.C_), output.r, keyset.keys[signature.amount])
    return Proof(signature.amount, signature.id, output.secret, C.hex())


def bolt11_msat(request: str) -> int | None:
    """The amount of a BOLT11 invoice in millisatoshi, None where it names none or is not one (BOLT 11, amount)."""
    match = _BOLT11.fullmatch(request.lower())
    if match is None or match[1] is None:
        return None
    number = int(match[1])
    if match[2] == "p":
        return number // 10 if number % 10 == 0 else None
    return number * _MSAT[match[2]]


def _messages(outputs: Sequence[Output]) -> list[BlindedMessage]:
    return [BlindedMessage(each.amount, each.keyset, each.b.hex()) for each in outputs]


def _quote(answer: answers.QuoteAnswer) -> Quote:
    # The id becomes part of an address, so it must not be able to name another one.
    if not _QUOTE.fullmatch(answer.quote) or len(answer.request) > MAX_REQUEST or not answer.request.isalnum():
        raise OfficeMisbehaves("a malformed quote")
    paid, issued = answer.state == "PAID", answer.state == "ISSUED"
    return Quote(answer.quote, answer.request, answer.expiry, paid, issued)


def _address(text: str) -> str | None:
    try:
        return parse_address(text) if len(text) <= 512 else None
    except InvalidInput:
        return None
