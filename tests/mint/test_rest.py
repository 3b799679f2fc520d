"""What adapters share: certificates that are trusted, answers that end in time, memos and invoices that fit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol.errors import ConfigurationError, LightningUnavailable
from pennypost_mint.lightning import rest
from pennypost_mint.lightning.bolt11 import MAX_MEMO, encode_invoice
from tests.support.http import HttpServer, Request, certificates


async def hello(_request: Request) -> tuple[int, object]:
    return 200, {"hello": "there"}


@contextlib.asynccontextmanager
async def serving(tls: object) -> AsyncIterator[str]:
    server = HttpServer(hello, tls)  # type: ignore[arg-type]
    await server.start()
    yield server.url
    await server.stop()


async def reached(url: str, certificate: bytes | None) -> bool:
    client = rest.open_client(url, {}, rest.trust(certificate, "PENNYPOST_X"))
    try:
        return (await rest.send(client, "GET", "/")).status == 200
    except LightningUnavailable:
        return False
    finally:
        await client.aclose()


async def test_a_nodes_own_authority_is_trusted_whatever_the_host_is_called(tmp_path: Path) -> None:
    made = certificates(tmp_path, "cln", "localhost")
    async with serving(made.context) as url:
        assert await reached(url, made.ca.read_bytes())
        assert await reached(url, made.server.read_bytes())
        assert not await reached(url, None)


async def test_an_authority_that_signs_for_many_is_asked_for_the_host(tmp_path: Path) -> None:
    (tmp_path / "good").mkdir()
    elsewhere = certificates(tmp_path)
    here = certificates(tmp_path / "good", address="127.0.0.1")
    async with serving(elsewhere.context) as url:
        assert not await reached(url, elsewhere.ca.read_bytes())
    async with serving(here.context) as url:
        assert await reached(url, here.ca.read_bytes())


@pytest.mark.parametrize(
    "pem", [b"", b"x", "ü".encode(), b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"]
)
def test_what_is_no_certificate_refuses_to_start(pem: bytes) -> None:
    with pytest.raises(ConfigurationError) as refused:
        rest.trust(pem, "PENNYPOST_X")
    assert "PENNYPOST_X" in str(refused.value)


async def test_an_answer_that_drips_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; the whole does not."""

    async def drops() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    async def drip(_request: Request) -> tuple[int, object]:
        return 200, drops()

    monkeypatch.setattr(rest, "SECONDS", 600.0)
    server = HttpServer(drip)
    await server.start()
    client = rest.open_client(server.url, {}, rest.trust(None, ""))
    async with asyncio.timeout(30):
        with pytest.raises(LightningUnavailable):
            await rest.send(client, "GET", "/", seconds=0.3)
    await client.aclose()
    await server.stop()


@settings(max_examples=200)
@given(st.text(max_size=1_000) | st.just("€" * 1_000) | st.just("\ud800"))
def test_every_memo_fits_an_invoice(memo: str) -> None:
    short = rest.fit_memo(memo)
    assert len(short.encode()) <= MAX_MEMO
    assert short.isprintable()
    assert rest.fit_memo(short) == short


@pytest.mark.parametrize(("memo", "short"), [("10 stamps", "10 stamps"), ("a\nb\x00c", "a b c"), ("grüße", "grüße")])
def test_ordinary_memos_are_kept(memo: str, short: str) -> None:
    assert rest.fit_memo(memo) == short


GOOD = encode_invoice(b"\1" * 32, 10, bytes(32), bytes(32), "", 1_700_000_000, 60)


def test_an_invoice_for_exactly_the_amount() -> None:
    assert rest.check_invoice(GOOD, 10).expires_at == 1_700_000_060
    for request, amount in (
        (GOOD, 9),
        (GOOD, 11),
        (f" {GOOD}", 10),
        (f"lightning:{GOOD}", 10),
        (GOOD[:-1], 10),
        ("", 10),
    ):
        with pytest.raises(LightningUnavailable):
            rest.check_invoice(request, amount)


@pytest.mark.parametrize("text", ["", "-1", "1.0", "1_000", "١", " 1 ", "9" * 19])
def test_numbers_are_ascii_digits(text: str) -> None:
    with pytest.raises(LightningUnavailable):
        rest.count(text)
    assert rest.count("10") == 10


def test_a_file_of_a_setting(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "full").write_bytes(b"x")
    assert rest.read_file(tmp_path / "full", "PENNYPOST_X") == b"x"
    for name in ("empty", "absent"):
        with pytest.raises(ConfigurationError) as refused:
            rest.read_file(tmp_path / name, "PENNYPOST_X")
        assert str(tmp_path) not in str(refused.value)
