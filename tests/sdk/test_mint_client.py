"""A mint that lies, refuses or stumbles: nothing it says is believed unchecked, and nothing is lost by it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pennypost import AsyncClient, ledger
from pennypost.ledger import Balance
from pennypost.mint_client import bolt11_msat
from pennypost.protocol import secp
from pennypost.protocol.errors import (
    InvalidInput,
    MintError,
    NotEnoughStamps,
    OfficeMisbehaves,
    PennypostError,
    ProofPending,
    ProofSpent,
    QuoteUnpaid,
    ServerError,
    TooMany,
)
from pennypost.transport import Response, parse_address
from tests.sdk.meddler import Meddler

Make = Callable[..., AsyncClient]
OTHER_POINT = secp.point(bytes(31) + b"\x07").hex()
NO_POINT = "02" + "00" * 32
QUOTE, QUOTE_STATE, MINT, SWAP = "/v1/mint/quote/bolt11", "/v1/mint/quote/bolt11/", "/v1/mint/bolt11", "/v1/swap"


def refusal(code: int, status: int = 400) -> Callable[[Response], Response]:
    return lambda answer: Response(status, msgspec.json.encode({"detail": "no\x1b[2J", "code": code}))


def edit(**fields: Any) -> Callable[[Any], Any]:
    return lambda answer: answer | fields


def edit_first(name: str, **fields: Any) -> Callable[[Any], Any]:
    def change(answer: Any) -> Any:
        answer = copy.deepcopy(answer)
        answer[name][0] |= fields
        return answer

    return change


def each_keyset(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Any], Any]:
    return lambda answer: {"keysets": [change(each) for each in answer["keysets"]]}


def other_keys(keyset: dict[str, Any]) -> dict[str, Any]:
    return keyset | {"keys": keyset["keys"] | {"1": OTHER_POINT}}


def other_dleq(answer: Any) -> Any:
    answer = copy.deepcopy(answer)
    answer["signatures"][0]["dleq"]["e"] = "11" * 32
    return answer


def swapped(answer: Any) -> Any:
    first, second, *rest = answer["signatures"]
    return {"signatures": [second, first, *rest]}


LIES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "keys that the id does not follow from": ("/v1/keys/", each_keyset(other_keys)),
    "keys of another keyset": ("/v1/keys/", each_keyset(lambda k: k | {"id": "01" + "22" * 32})),
    "no keys": ("/v1/keys/", each_keyset(lambda k: k | {"keys": {}})),
    "a key that is no point": ("/v1/keys/", each_keyset(lambda k: k | {"keys": {"1": NO_POINT}})),
    "an amount that is none": ("/v1/keys/", each_keyset(lambda k: k | {"keys": {"1_0": OTHER_POINT}})),
    "no such keyset": ("/v1/keys/", lambda answer: {"keysets": []}),
    "an unannounced fee": ("/v1/keysets", each_keyset(lambda k: k | {"input_fee_ppk": 100_000})),
    "an unannounced expiry": ("/v1/keysets", each_keyset(lambda k: k | {"final_expiry": 1})),
    "too many keysets": ("/v1/keysets", lambda answer: {"keysets": answer["keysets"] * 300}),
    "no active keyset": ("/v1/keysets", each_keyset(lambda k: k | {"active": False})),
    "keysets of another unit alone": ("/v1/keysets", lambda answer: {"keysets": []}),
    "a quote over more": (QUOTE, edit(amount=11)),
    "a quote in another unit": (QUOTE, edit(unit="usd")),
    "a quote for another key": (QUOTE, edit(pubkey=OTHER_POINT)),
    "an invoice over more": (QUOTE, lambda q: q | {"request": q["request"].replace("100n", "200n", 1)}),
    "an invoice without amount": (QUOTE, lambda q: q | {"request": q["request"].replace("100n", "", 1)}),
    "an invoice that is none": (QUOTE, edit(request="https://pay.example")),
    "an invoice without end": (QUOTE, lambda q: q | {"request": q["request"] + "q" * 5_000}),
    "a terminal's control characters": (QUOTE, lambda q: q | {"request": q["request"] + "\x1b[2J"}),
    "an id that names another address": (QUOTE, edit(quote="../../../v1/keys")),
    "an id without end": (QUOTE, edit(quote="a" * 300)),
    "an unknown state": (QUOTE, edit(state="MAYBE")),
    "the state of another quote": (QUOTE_STATE, edit(quote="00000000-0000-0000-0000-000000000000")),
    "a signature too few": (MINT, lambda a: {"signatures": a["signatures"][1:]}),
    "a signature too many": (MINT, lambda a: {"signatures": a["signatures"] + a["signatures"][:1]}),
    "signatures in another order": (MINT, swapped),
    "another amount": (MINT, edit_first("signatures", amount=2)),
    "another keyset": (MINT, edit_first("signatures", id="01" + "22" * 32)),
    "another point": (MINT, edit_first("signatures", C_=OTHER_POINT)),
    "no point": (MINT, edit_first("signatures", C_=NO_POINT)),
    "an uncompressed point": (MINT, edit_first("signatures", C_="04" + "11" * 64)),
    "no DLEQ proof": (MINT, edit_first("signatures", dleq=None)),
    "a DLEQ proof that proves nothing": (MINT, other_dleq),
    "a list instead of an object": (MINT, lambda a: [a]),
    "text instead of a list": (MINT, lambda a: {"signatures": "none"}),
}


@pytest.mark.parametrize("row", LIES)
async def test_a_lie_is_not_believed_and_loses_nothing(
    client: Make, meddler: Meddler, tmp_path: Path, row: str
) -> None:
    alice = client(tmp_path, transport=meddler)
    path, change = LIES[row]
    meddler.change(path, change)
    with pytest.raises(OfficeMisbehaves):
        await alice.stamps.buy(10, timeout=1)
    assert (await alice.stamps.summary()).stamps == 0
    assert str(OfficeMisbehaves()) and "\x1b" not in str(OfficeMisbehaves())
    meddler.honest()
    await alice.stamps.buy(10)
    check = await alice.stamps.check()
    assert check.stamps in (10, 20) and (check.lost, check.problems) == (0, ())


NONSENSE: dict[str, bytes] = {
    "nothing": b"",
    "HTML": b"<html>hello</html>",
    "a number": b"1e999",
    "not a number": b'{"quote": NaN}',
    "half a surrogate pair": b'{"quote": "\\ud800"}',
    "not UTF-8": b'{"quote": "\xff"}',
    "nested too deeply": b"[" * 100_000,
    "cut short": b'{"quote": "abc',
}


@pytest.mark.parametrize("path", ["/v1/keysets", "/v1/keys/", QUOTE, MINT])
@pytest.mark.parametrize("row", NONSENSE)
async def test_nonsense(client: Make, meddler: Meddler, row: str, path: str) -> None:
    alice = client(transport=meddler)
    meddler.replace(path, NONSENSE[row])
    with pytest.raises(OfficeMisbehaves):
        await alice.stamps.buy(10, timeout=1)
    meddler.honest()
    assert (await alice.stamps.check()).problems == ()


STATUSES: tuple[tuple[int, bytes, type[PennypostError]], ...] = (
    (500, b"", ServerError),
    (502, b"<html>", ServerError),
    (429, b"{}", TooMany),
    (404, b"{}", OfficeMisbehaves),
    (301, b"", OfficeMisbehaves),
    (400, b"nonsense", OfficeMisbehaves),
    (400, b'{"detail": "x", "code": 424242}', OfficeMisbehaves),
    (400, b'{"detail": "x", "code": 31337}', MintError),
)


@pytest.mark.parametrize(("status", "body", "error"), STATUSES)
async def test_other_statuses(
    client: Make, meddler: Meddler, status: int, body: bytes, error: type[PennypostError]
) -> None:
    meddler.replace("/v1/keysets", body, status)
    with pytest.raises(error):
        await client(transport=meddler).stamps.buy(1)


async def lone_swap(client: Make, transport: Meddler, home: Path) -> AsyncClient:
    """A wallet of 16 sat in one proof, so that to send 5 takes a swap."""
    alice = client(home, transport=transport)
    await alice.stamps.buy(16)
    return alice


@pytest.mark.parametrize("code", [11001, 11003, 10000, 31337])
async def test_a_swap_that_was_done_and_is_denied_is_restored(
    client: Make, meddler: Meddler, tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    alice = await lone_swap(client, meddler, tmp_path)
    meddler.answers[SWAP] = refusal(code)
    token = await alice.stamps.send(5)
    assert "POST /v1/restore" in meddler.asked
    meddler.honest()
    assert await client().stamps.receive(token) == 5
    assert (await alice.stamps.check()).stamps == 11


@pytest.mark.parametrize("code", [20002, 11003])
async def test_a_purchase_that_was_issued_and_is_denied_is_restored(
    client: Make, meddler: Meddler, tmp_path: Path, code: int
) -> None:
    alice = client(tmp_path, transport=meddler)
    meddler.answers[MINT] = refusal(code)
    await alice.stamps.buy(10)
    assert (await alice.stamps.check()).stamps == 10


@pytest.mark.parametrize("code", [20001, 11002])
async def test_not_yet_is_asked_again_later(client: Make, meddler: Meddler, tmp_path: Path, code: int) -> None:
    alice = client(tmp_path, transport=meddler)
    meddler.answers[MINT] = refusal(code)
    with pytest.raises((QuoteUnpaid, ProofPending)):
        await alice.stamps.buy(10)
    meddler.honest()
    assert (await alice.stamps.check()).recovered == 10


@pytest.mark.parametrize("code", [12001, 12002])
async def test_keysets_are_followed(client: Make, meddler: Meddler, tmp_path: Path, code: int) -> None:
    alice = client(tmp_path, transport=meddler)
    await alice.stamps.buy(1)
    refusals = [refusal(code)]
    asked = 0

    # A request that is refused never reached the mint's books.
    inner = meddler.inner.request

    async def refuse_once(method: str, url: str, **options: Any) -> Response:
        nonlocal asked
        if url.endswith(MINT) and refusals:
            return refusals.pop()(Response(200, b""))
        asked += url.endswith("/v1/keysets")
        return await inner(method, url, **options)

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(meddler.inner, "request", refuse_once)
    await alice.stamps.buy(10)
    monkeypatch.undo()
    assert asked >= 1
    assert (await alice.stamps.check()).stamps == 11


async def test_the_mint_that_knows_only_the_older_quote_message(client: Make, meddler: Meddler) -> None:
    """A bad signature is 20008, and then the other message is signed (NUT-20)."""
    alice = client(transport=meddler)
    inner, tried = meddler.inner.request, []

    async def refuse_first(method: str, url: str, **options: Any) -> Response:
        if url.endswith(MINT):
            tried.append(msgspec.json.decode(options["body"])["signature"])
            if len(tried) == 1:
                return refusal(20008)(Response(200, b""))
        return await inner(method, url, **options)

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(meddler.inner, "request", refuse_first)
    await alice.stamps.buy(10)
    monkeypatch.undo()
    assert len(set(tried)) == 2
    assert await alice.stamps.balance() == 10


async def test_states_of_other_proofs(client: Make, meddler: Meddler) -> None:
    alice = client(transport=meddler)
    await alice.stamps.buy(3)
    meddler.change("/v1/checkstate", lambda answer: {"states": answer["states"][::-1]})
    with pytest.raises(OfficeMisbehaves):
        await alice.stamps.check()
    assert await alice.stamps.balance() == 3


async def test_restores_of_other_outputs(client: Make, meddler: Meddler) -> None:
    alice = client(transport=meddler)
    await alice.stamps.buy(3)
    meddler.change("/v1/restore", edit_first("outputs", B_=OTHER_POINT))
    with pytest.raises(OfficeMisbehaves):
        await alice.stamps.restore()


async def test_a_mint_that_calls_everything_spent(client: Make, meddler: Meddler) -> None:
    """It can always do that: they are its stamps. The wallet says what it lost."""
    alice = client(transport=meddler)
    await alice.stamps.buy(3)
    meddler.change(
        "/v1/checkstate", lambda answer: {"states": [each | {"state": "SPENT"} for each in answer["states"]]}
    )
    check = await alice.stamps.check()
    assert (check.stamps, check.lost) == (0, 3)


async def test_inputs_spent_by_another_device(client: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "READY", 0)
    alice, bob = client(tmp_path), client()
    await alice.stamps.buy(16)
    (proof,) = await alice._store.run(ledger.proofs_on, alice.stamps.mint.url, "unspent")
    from pennypost.protocol.token import Token, encode_token

    await bob.stamps.receive(encode_token(Token(alice.stamps.mint.url, "sat", [proof])))
    with pytest.raises(NotEnoughStamps):
        await alice.stamps.send(5)
    assert await alice.stamps.summary() == Balance()
    with pytest.raises(ProofSpent):
        await alice.stamps.receive(encode_token(Token(alice.stamps.mint.url, "sat", [proof])))


async def test_what_the_mint_calls_itself_never_widens_what_it_is_shown(client: Make, meddler: Meddler) -> None:
    from pennypost.protocol.errors import OtherMint
    from pennypost.protocol.token import Token, encode_token, parse_token

    meddler.change("/v1/info", edit(urls=["https://bank.example"]))
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    token = parse_token(await alice.stamps.send(1))
    with pytest.raises(OtherMint):
        await bob.stamps.receive(encode_token(Token("https://bank.example", "sat", token.proofs)))
    assert not [each for each in meddler.asked if each.startswith("POST")]


INVOICES = (
    ("lnbc100n1", 10_000),
    ("lnbc1u1", 100_000),
    ("lnbc1m1", 100_000_000),
    ("lnbc2500u1", 250_000_000),
    ("lnbcrt10n1", 1_000),
    ("lntbs1000n1", 100_000),
    ("lnbc10p1", 1),
    ("lnbc1p1", None),
    ("lnbc1", None),
    ("lnbc01n1", None),
    ("lnbc١n1", None),
    ("lnbc-1n1", None),
    ("bc100n1", None),
    ("lnbc20x1", None),
)


@pytest.mark.parametrize(("beginning", "msat"), INVOICES)
def test_amount_of_an_invoice(beginning: str, msat: int | None) -> None:
    data = "q" * 120
    assert bolt11_msat(beginning + data) == msat
    assert bolt11_msat((beginning + data).upper()) == msat
    assert bolt11_msat(beginning + data + "!") is None
    assert bolt11_msat(beginning) is None


ADDRESSES = (
    ("https://post.example", "https://post.example"),
    ("https://Post.Example/", "https://post.example"),
    ("https://post.example:443/mint/", "https://post.example/mint"),
    ("http://post.example:80", "http://post.example"),
    ("wss://post.example", "https://post.example"),
    ("ws://127.0.0.1:3338/", "http://127.0.0.1:3338"),
    ("post.example", "https://post.example"),
    ("localhost:3338", "http://localhost:3338"),
    ("http://[::1]:3338", "http://[::1]:3338"),
)


@pytest.mark.parametrize(("text", "address"), ADDRESSES)
def test_address(text: str, address: str) -> None:
    assert parse_address(text) == address
    assert parse_address(address) == address


@pytest.mark.parametrize(
    "text",
    ["", "http://", "ftp://post.example", "https://a:b@post.example", "https://post.example?x", "https://post.example#x",
     "https://post.example:0x50", "https://post.example:99999", "https://post .example", "https://pöst.example",
     "https://post.example\n", "https://post.example\\x", "https://[::1", "javascript:alert(1)"],
)  # fmt: skip
def test_no_address(text: str) -> None:
    if text.endswith("\n"):
        assert parse_address(text) == "https://post.example"
        return
    with pytest.raises(InvalidInput):
        parse_address(text)
