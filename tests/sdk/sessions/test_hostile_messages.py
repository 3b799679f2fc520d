"""What strangers send as session messages, whatever it is: opened, or passed over; nothing else comes of it."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pennypost import AsyncClient, sandbox
from pennypost.protocol import secp
from pennypost.protocol.giftwrap import make_rumor
from pennypost.sessions import KIND_SESSION
from pennypost.sessions.prekeys import parse_prekeys
from pennypost.sessions.ratchet import Agreement, Device, Ratchet, Sealed, Unreadable
from tests.support.relay import letter

MALLORY = secp.xonly(b"\5" * 32)


@dataclass
class Reader:
    """Bob, his device, and the loop that he lives in."""

    runner: asyncio.Runner
    client: AsyncClient
    device: str

    def take(self, content: str) -> None:
        sessions: Any = self.client.sessions
        rumor = make_rumor(MALLORY, created_at=int(time.time()), content=content, kind=KIND_SESSION)
        assert self.runner.run(sessions.take(MALLORY, rumor, letter(), 2**31)) is None


@pytest.fixture(scope="module")
def bob() -> Iterator[Reader]:
    with sandbox() as office, asyncio.Runner() as runner:

        async def begin() -> tuple[AsyncClient, str]:
            client = AsyncClient(office)
            return client, parse_prekeys(await client.sessions.word()).device

        client, device = runner.run(begin())
        yield Reader(runner, client, device)
        runner.run(client.close())


_hex = st.binary(min_size=32, max_size=32).map(bytes.hex) | st.sampled_from(
    ["00" * 32, "ff" * 32, "ab" * 31, "AB" * 32]
)
_any = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80) | st.lists(st.integers(), max_size=3)
)
_bodies = st.binary(max_size=80).map(lambda data: b64encode(data).decode()) | st.text(max_size=40)
_agreements = st.fixed_dictionaries({}, optional={"ephemeral": _hex | _any, "signed": _hex | _any, "once": _hex | _any})
_messages = st.fixed_dictionaries(
    {"to": _hex | st.just("%s"), "by": _hex},
    optional={
        "session": _hex | _any,
        "ratchet": _hex | _any,
        "previous": st.integers(0, 2**31 - 1) | _any,
        "number": st.integers(0, 2**31 - 1) | _any,
        "body": _bodies | _any,
        "agreement": _agreements | _any,
        "reset": _hex | _any,
        "keys": st.text(max_size=60).map(lambda text: f"pps1{text}") | _any,
    },
)
"""Shaped as messages are, to the reader's own device (%s) or to another."""


@settings(deadline=None, max_examples=80)
@given(st.text(max_size=100) | _messages.map(json.dumps))
@example("[" * 100_000)
@example('{"to": "%s", "by": "' + "ab" * 32 + '", "number": ' + "9" * 5_000 + "}")
def test_any_message_of_a_stranger_is_passed_over(bob: Reader, content: str) -> None:
    bob.take(content.replace("%s", bob.device))


@settings(deadline=None, max_examples=80)
@given(
    session=_hex,
    ratchet=_hex,
    body=st.binary(max_size=80),
    number=st.integers(0, 2**31 - 1),
    signed=_hex,
    once=st.none() | _hex,
    by=_hex,
)
def test_a_session_that_a_stranger_pretends_to_begin_is_none(bob: Reader, body: bytes, **fields: Any) -> None:
    """Whole messages, so that the key agreement and the ratchet are reached."""
    agreement = {"ephemeral": fields["session"], "signed": fields["signed"], "once": fields["once"]}
    sent = {each: fields[each] for each in ("session", "ratchet", "number", "by")}
    bob.take(json.dumps({"to": bob.device, "body": b64encode(body).decode(), "agreement": agreement, **sent}))


_keys = st.binary(max_size=40) | st.binary(min_size=32, max_size=32) | st.sampled_from([bytes(32), b"\1" + bytes(31)])
_counts = st.integers(0, 2**31 - 1) | st.integers(0, 3)


@pytest.fixture(scope="module")
def agreed() -> tuple[Device, Ratchet, bytes]:
    async def agree() -> tuple[Device, Ratchet, bytes]:
        a, b = Device.new(), Device.new()
        shared, names, agreement = await a.agree(b.bundle, b"ab")
        _, first = await Ratchet.begin(shared, b.bundle.signed_pre_key, names, b"first")
        shared, names, own = await b.agree_with(agreement, b"ab")
        return b, (await Ratchet.answer(shared, own, names, first))[0], own

    return asyncio.run(agree())


@settings(deadline=None, max_examples=40)
@given(sealed=st.builds(Sealed, _keys, _counts, _counts, st.binary(max_size=80)))
@example(sealed=Sealed(bytes(31), 1_002, 0, b""))
def test_any_message_of_a_session_is_refused_and_changes_nothing(
    agreed: tuple[Device, Ratchet, bytes], sealed: Sealed
) -> None:
    _, ratchet, own = agreed
    before = ratchet.save()
    with pytest.raises(Unreadable):
        asyncio.run(ratchet.decrypt(sealed))
    assert ratchet.save() == before
    with pytest.raises(Unreadable):
        asyncio.run(Ratchet.answer(b"\1" * 32, own, b"ab", sealed))


@settings(deadline=None, max_examples=80)
@given(agreement=st.builds(Agreement, _keys, _keys, _keys, st.none() | _keys), right=st.booleans())
def test_any_agreement_is_one_or_refused(
    agreed: tuple[Device, Ratchet, bytes], agreement: Agreement, right: bool
) -> None:
    device = agreed[0]
    given = agreement._replace(signed_pre_key=device.bundle.signed_pre_key) if right else agreement
    try:
        shared, _, secret = asyncio.run(device.agree_with(given, b"ab"))
    except Unreadable:
        return
    assert right and len(shared) == len(secret) == 32
