"""One connection to a wallet as a state: what follows from each message, and that strangers' noise is nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import frames, nip44, secp
from pennypost.protocol.errors import InvalidInput
from pennypost.protocol.event import Event, sign_event
from pennypost.protocol.nip47 import Encryption, WalletLink, WalletSession
from pennypost.protocol.nip47_line import (
    ANSWERS,
    INFO,
    RESENT,
    Answer,
    Leave,
    LineState,
    Ready,
    Received,
    Send,
    Step,
    Unanswered,
)

WALLET, OURS, AUX = b"\1" * 32, b"\2" * 32, b"\0" * 32
NOW = 1_700_000_000
LINK = WalletLink(secp.xonly(WALLET), OURS, ("wss://relay",))


def written(kind: int, text: str, *tags: list[str], secret: bytes = WALLET, sealed: bool = True) -> Event:
    if sealed:
        text = nip44.encrypt(text, nip44.conversation_key(WALLET, secp.xonly(OURS)), AUX)
    tags = (["p", secp.xonly(OURS).hex()], *tags)
    return sign_event(secret, created_at=NOW, kind=kind, tags=list(tags), content=text, aux=AUX)


def take(state: LineState, message: frames.RelayMessage) -> list[Step]:
    return state.take(message, now=NOW, aux=AUX)


@pytest.fixture
def state() -> LineState:
    return LineState(WalletSession(LINK), "wss://relay")


def asked(state: LineState) -> str:
    return state.request("get_info", {}, now=NOW, expires_at=NOW + 60, nonce=AUX, aux=AUX).id


def test_an_answer_is_matched_by_its_request(state: LineState) -> None:
    one, two = asked(state), state.request("get_balance", {}, now=NOW, expires_at=NOW, nonce=AUX, aux=AUX).id
    answer = written(23195, '{"result_type":"get_info","result":{}}', ["e", one])
    (step,) = take(state, frames.EventMessage(ANSWERS, answer))
    assert isinstance(step, Answer) and step.request == one and state.waiting == 2
    state.forget(one)
    assert take(state, frames.EventMessage(ANSWERS, answer)) == [] and state.waiting == 1
    unreadable = written(23195, "[]", ["e", two])
    assert take(state, frames.EventMessage(ANSWERS, unreadable)) == [Unanswered(two, taken=True)]
    assert take(state, frames.OkMessage(two, False, "blocked:")) == [Unanswered(two, taken=False)]
    assert take(state, frames.OkMessage(two, True, "")) == []


def test_only_the_wallets_own_word_counts(state: LineState) -> None:
    one = asked(state)
    forged = written(23195, '{"result_type":"get_info","result":{}}', ["e", one], secret=b"\3" * 32)
    assert take(state, frames.EventMessage(ANSWERS, forged)) == []
    info = written(13194, "pay_invoice", sealed=False)
    assert take(state, frames.EventMessage(INFO, written(13194, "x", sealed=False, secret=b"\3" * 32))) == []
    assert state.info is None and state.encryption is Encryption.NIP44
    assert take(state, frames.EventMessage(INFO, info)) == [] and state.encryption is Encryption.NIP04


def test_a_wallet_that_changes_its_encryption_is_subscribed_to_anew(state: LineState) -> None:
    assert take(state, frames.EoseMessage(INFO)) == [Ready(INFO)]
    (step,) = take(state, frames.EventMessage(INFO, written(13194, "pay_invoice", sealed=False)))
    assert isinstance(step, Send) and '"answers"' in step.frame and "23196" in step.frame


def test_a_payment_that_nobody_asked_for(state: LineState) -> None:
    state.nonsense = 9
    payment = {"type": "incoming", "amount": 7_000, "payment_hash": "00" * 32, "created_at": 1}
    note = written(23197, json.dumps({"notification_type": "payment_received", "notification": payment}))
    (step,) = take(state, frames.EventMessage(ANSWERS, note))
    assert isinstance(step, Received) and step.payment.amount == 7_000 and state.nonsense == 0


def test_a_relay_that_asks_who_we_are(state: LineState) -> None:
    assert take(state, frames.ClosedMessage(INFO, "auth-required: sign in")) == []
    (step,) = take(state, frames.AuthMessage("challenge"))
    assert isinstance(step, Send)
    id = step.frame.split('"id":"')[1][:64]
    (again,) = take(state, frames.OkMessage(id, True, ""))
    assert again == Send(state.subscribe(INFO))
    for _ in range(RESENT - 1):
        assert take(state, frames.ClosedMessage(INFO, "auth-required:")) == [again]
    assert take(state, frames.ClosedMessage(INFO, "auth-required:")) == [Leave()]
    assert take(state, frames.OkMessage(id, False, "restricted:")) == [Leave()]
    assert take(state, frames.ClosedMessage(ANSWERS, "error: no")) == [Leave()]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80), st.sampled_from(["info", "answers", "x", ""]), st.text(max_size=80))
def test_any_text_changes_nothing(text: str, name: str, reason: str) -> None:
    state = LineState(WalletSession(LINK), "wss://relay")
    for message in (frames.NoticeMessage(text), frames.OkMessage(text, False, reason), frames.EoseMessage("x" + name)):
        assert take(state, message) == []
    try:
        frames.parse_relay_frame(text)
    except InvalidInput:
        return
