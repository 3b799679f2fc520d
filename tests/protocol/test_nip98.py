"""Signed HTTP requests (NIP-98): what is taken, and every way to be refused."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pennypost.protocol import secp
from pennypost.protocol.errors import HttpAuthInvalid
from pennypost.protocol.event import event_json, sign_event
from pennypost.protocol.nip98 import MAX_HEADER, WINDOW, check_http_auth, http_auth, spellings

SECRET, OTHER = b"\x01" * 32, b"\x02" * 32
URL, BODY, NOW = "https://office.example/", b'{"method":"supportedmethods","params":[]}', 1_800_000_000
URLS = spellings("https://office.example")


def check(header: str | None, **changed: Any) -> str:
    given: dict[str, Any] = {"urls": URLS, "method": "POST", "body": BODY, "now": NOW} | changed
    return check_http_auth(header, **given).pubkey


def good(**changed: Any) -> str:
    given: dict[str, Any] = {"url": URL, "method": "POST", "body": BODY, "now": NOW, "aux": bytes(32)} | changed
    return http_auth(SECRET, **given)


def signed(*tags: list[str], kind: int = 27_235, at: int = NOW) -> str:
    event = sign_event(SECRET, created_at=at, kind=kind, tags=list(tags), content="", aux=bytes(32))
    return f"Nostr {b64encode(event_json(event)).decode()}"


U, M, H = ["u", URL], ["method", "POST"], ["payload", sha256(BODY).hexdigest()]


def test_spellings() -> None:
    assert {f"{scheme}://office.example{end}" for scheme in ("https", "wss") for end in ("", "/")} == URLS
    assert "http://127.0.0.1:3338" in spellings("ws://127.0.0.1:3338/")
    assert "http://127.0.0.1:3338" not in spellings("wss://127.0.0.1:3338/")


@pytest.mark.parametrize("url", sorted(URLS))
@pytest.mark.parametrize("off", [-WINDOW, 0, WINDOW])
def test_what_is_taken(url: str, off: int) -> None:
    assert check(good(url=url, now=NOW + off)) == secp.xonly(SECRET).hex()


def test_a_get_has_no_body_to_name() -> None:
    get = ["method", "GET"]
    for header in (signed(U, get), signed(U, get, ["payload", sha256(b"").hexdigest()])):
        assert check(header, method="GET", body=b"")
    for header in (signed(U, get, H), signed(U, get, ["payload"]), signed(U, M)):
        with pytest.raises(HttpAuthInvalid):
            check(header, method="GET", body=b"")
    with pytest.raises(HttpAuthInvalid):
        check(signed(U, get), method="GET", body=BODY)
    with pytest.raises(HttpAuthInvalid):
        check(signed(U, M), body=b"")


def test_the_scheme_in_any_case() -> None:
    assert check(good().replace("Nostr", "nostr"))


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Nostr",
        "Nostr ",
        "Nostr !!!!",
        "Nostr e30=",
        "Nostr é",
        "Bearer " + good()[6:],
        good()[6:],
        good() + "A" * MAX_HEADER,
        good(now=NOW + WINDOW + 1),
        good(now=NOW - WINDOW - 1),
        good(url="https://office.example/v1/events"),
        good(url="https://OFFICE.example/"),
        good(url="http://office.example/"),
        good(url="https://other.example/"),
        good(method="GET"),
        good(method="post"),
        good(body=b"other"),
        signed(U, M, H, kind=22_242),
        signed(M, H),
        signed(U, H),
        signed(U, M),
        signed(U, M, ["payload"]),
        signed(U, M, ["payload", sha256(BODY).hexdigest().upper()]),
        signed(U, M, H, ["u", "https://other.example/"]),
        signed(U, M, H, ["method", "GET"]),
    ],
)
def test_what_is_refused(header: str | None) -> None:
    with pytest.raises(HttpAuthInvalid):
        check(header)


def test_a_forged_signature_or_author() -> None:
    event = json.loads(b64decode(good()[6:]))
    forged = event | {"sig": event["sig"][:-2] + ("00" if event["sig"][-2:] != "00" else "11")}
    stolen = event | {"pubkey": secp.xonly(OTHER).hex()}
    for each in (forged, stolen):
        with pytest.raises(HttpAuthInvalid):
            check("Nostr " + b64encode(json.dumps(each).encode()).decode())


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    with pytest.raises(HttpAuthInvalid):
        check("Nostr " + text)
