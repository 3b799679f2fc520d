"""The cheap half of taking a stamp: whose it is, what it is worth, who may spend it. No crypto, no look-up.

token ─▶ mint ─▶ unit ─▶ keyset ─▶ lock ─▶ total ─▶ Stamp        each refusal leaves the stamp untouched
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from pennypost.protocol.errors import (
    InvalidInput,
    KeysetExpired,
    KeysetInactive,
    KeysetUnknown,
    StampExpired,
    StampForged,
    StampLocked,
    StampRequired,
    StampTooLittle,
    StampUnknownKeyset,
    StampWrongMint,
    StampWrongUnit,
)
from pennypost.protocol.keyset import short_id
from pennypost.protocol.secp import is_point
from pennypost.protocol.token import Proof, parse_token, spending_condition
from pennypost_mint.api import Keyring, Keyset
from pennypost_mint.runtime.limits import MAX_CHANGE, MAX_PROOFS
from pennypost_postoffice.post import Blank, Output, Stamp
from pennypost_postoffice.shapes import Shapes

UNIT = "sat"

_DEFAULT_PORTS = {"http": 80, "https": 443}


def mint_name(url: str) -> str | None:
    """`host[:port][/path]` of a mint's address, so that case, default port and a last slash do not matter.

    None for what is no plain http(s) address (user names, queries). The address is compared, never dialled.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{port}"
    return host + parts.path.rstrip("/")


class StampReader:
    """Reads stamps of one mint; `url` is its public address. A P2PK stamp may name our identity and nothing else.

    `buy` is the page that sells them. An office without keysets has no mint of its own: none is read here. A stamp has
    at most `max_proofs` proofs, and change `max_change` blank outputs.
    """

    def __init__(
        self, keyring: Keyring, url: str, buy: str, max_proofs: int = MAX_PROOFS, max_change: int = MAX_CHANGE
    ) -> None:
        self._max_proofs, self._max_change = max_proofs, max_change
        self._own = bool(keyring.keysets)
        self._buy = buy
        self._url = url if self._own else ""
        self._names = {mint_name(url)}
        # one key in both its forms: signatures are by x alone (NUT-11)
        self._locks = {prefix + keyring.identity[1:].hex() for prefix in ("02", "03")}
        self._keyring = keyring
        self._indexed: tuple[Keyset, ...] | None = None
        self._by_name: dict[str, Keyset | None] = {}
        self._shapes = Shapes()

    def limit(self, max_proofs: int, max_change: int) -> None:
        """Other limits from now on."""
        self._max_proofs, self._max_change = max_proofs, max_change
        self._shapes.clear()

    @property
    def _keysets(self) -> dict[str, Keyset | None]:
        """By id and by short id, as the keyring has them now."""
        if self._indexed is not self._keyring.keysets:
            self._indexed = self._keyring.keysets
            self._by_name = _by_name(self._indexed)
            self._shapes.clear()
        return self._by_name

    def read(self, token: object, price: int, now: int, origin: str) -> Stamp:
        """The stamp in `token` for an event that costs `price` sat; `now` in Unix seconds.

        Raises StampRequired, StampMalformed, StampWrongMint, StampWrongUnit, StampUnknownKeyset, StampLocked,
        StampExpired, StampForged (an amount this mint has no key for) or StampTooLittle.
        """
        if token is None:
            raise StampRequired(f"{price} sat, buy at {self._buy}")
        if isinstance(token, str) and (stamp := self._like_one_before(token, price, now, origin)) is not None:
            return stamp
        read = parse_token(token, max_proofs=self._max_proofs)
        if read.mint != self._url:
            name = mint_name(read.mint)
            if name is None or not self._own or (name not in self._names and name != origin):
                raise StampWrongMint
        if read.unit != UNIT:
            raise StampWrongUnit
        proofs: list[tuple[str, int, str, str]] = []
        positions: list[int] = []
        total = 0
        for proof in read.proofs:
            keyset = self._keyset(proof.id, now)
            if keyset.unit != UNIT:
                raise StampWrongUnit
            if proof.amount not in keyset.keys:
                raise StampForged
            self._check_lock(proof)
            proofs.append((keyset.id, proof.amount, proof.secret, proof.C))
            positions.append(keyset.position)
            total += proof.amount
        if total < price:
            raise StampTooLittle(f"{price} sat are needed")
        if len(proofs) == 1:
            _, amount, secret, C = proofs[0]
            self._shapes.learn(cast("str", token), origin, self._keyset(read.proofs[0].id, now), amount, secret, C)
        return Stamp(proofs, positions, total)

    def _like_one_before(self, token: str, price: int, now: int, origin: str) -> Stamp | None:
        """The stamp of a token that differs from one read before in nothing but its secret and its C; else None."""
        _ = self._keysets
        found = self._shapes.read(token, origin)
        if found is None:
            return None
        (keyset, amount, *_), secret, C = found
        if amount < price or keyset.expired(now):
            return None
        return Stamp([(keyset.id, amount, secret, C)], [keyset.position], amount)

    def _keyset(self, written: str, now: int) -> Keyset:
        keyset = self._keysets.get(written)
        if keyset is None:
            raise StampUnknownKeyset
        if keyset.expired(now):
            raise StampExpired
        return keyset

    def _check_lock(self, proof: Proof) -> None:
        if proof.secret[0] not in "[ \t\r\n":
            return
        condition = spending_condition(proof.secret)
        if condition is None:
            return
        if condition.malformed or condition.kind != "P2PK" or condition.tags or condition.data not in self._locks:
            raise StampLocked

    def blanks(self, options: object) -> list[Blank]:
        """The blank outputs for change in the fourth element of an EVENT (NUT-08); none when none is asked for.

        Their keysets may be retired: they may have been signed before. Raises InvalidInput for another shape,
        KeysetUnknown.
        """
        if not isinstance(options, dict):
            raise InvalidInput("the options of an EVENT are an object")
        given = cast("dict[str, Any]", options).get("change", [])
        if not isinstance(given, list) or len(cast("list[Any]", given)) > self._max_change:
            raise InvalidInput(f"change is a list of at most {self._max_change} blank outputs")
        found = [self._blank(each) for each in cast("list[Any]", given)]
        if len({blank.b for blank in found}) != len(found):
            raise InvalidInput("a blank output is given twice")
        return found

    def _blank(self, value: Any) -> Blank:
        written, blinded = (value.get("id"), value.get("B_")) if isinstance(value, dict) else (None, None)
        if not isinstance(written, str) or not isinstance(blinded, str) or len(blinded) != 66:
            raise InvalidInput("a blank output has a keyset id and a B_ of 66 lower-case hex digits")
        keyset = self._keysets.get(written)
        if keyset is None or keyset.unit != UNIT:
            raise KeysetUnknown
        try:
            point = bytes.fromhex(blinded)
        except ValueError:
            point = b""
        if point.hex() != blinded or not is_point(point):
            raise InvalidInput("a blank output is no point of the curve")
        return Blank(keyset.id, keyset.position, point)

    def change(self, surplus: int, blanks: Sequence[Blank], now: int) -> list[Output]:
        """The blanks that get something back: amounts that add up to `surplus`, the largest when blanks are few.

        Raises KeysetInactive, KeysetExpired: these keysets sign nothing at `now` (Unix seconds).
        """
        amounts: list[int] = []
        for blank in blanks:
            keyset = self._keysets[blank.keyset_id]
            assert keyset is not None
            if keyset.expired(now):
                raise KeysetExpired
            if not keyset.active:
                raise KeysetInactive
            amounts = amounts or [amount for amount in sorted(keyset.keys) if surplus & amount]
        amounts = amounts[max(0, len(amounts) - len(blanks)) :]
        return [Output(blank, amount) for blank, amount in zip(blanks, amounts, strict=False)]


def _by_name(keysets: Sequence[Keyset]) -> dict[str, Keyset | None]:
    found: dict[str, Keyset | None] = {}
    for keyset in keysets:
        found[keyset.id] = keyset
        short = short_id(keyset.id)
        if short != keyset.id:
            # a short id that fits two keysets names neither
            found[short] = None if short in found else keyset
    return found
