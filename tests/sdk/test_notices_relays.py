"""The letter of a notice asked of relays that lie: nothing else is shown for it, and an honest relay is heard."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from pennypost import AsyncClient, Sandbox
from pennypost.line import NONSENSE_LIMIT
from pennypost.office import LETTERS, Office
from pennypost.protocol.errors import AuthRequired, NotFound, OfficeMisbehaves, PennypostError
from tests.sdk.meddler import Meddler
from tests.support.relay import letter, plain

Make = Callable[..., AsyncClient]
Lie = Callable[[list[Any]], list[list[Any]]]


def bad_signature(frame: list[Any]) -> list[list[Any]]:
    frame[2]["sig"] = frame[2]["sig"][:-1] + ("0" if frame[2]["sig"][-1] != "0" else "1")
    return [frame]


def changed_content(frame: list[Any]) -> list[list[Any]]:
    content = frame[2]["content"]
    frame[2]["content"] = content[:100] + ("A" if content[100] != "A" else "B") + content[101:]
    return [frame]


def other_author(frame: list[Any]) -> list[list[Any]]:
    """A genuine letter, by somebody who was not asked for."""
    return [["EVENT", frame[1], plain(letter())]]


def other_subscription(frame: list[Any]) -> list[list[Any]]:
    return [["EVENT", "another", frame[2]]]


def nothing(frame: list[Any]) -> list[list[Any]]:
    return []


def broken(frame: list[Any]) -> list[list[Any]]:
    return [["EVENT", frame[1], {"id": 1}], ["EVENT", frame[1]], ["EVENT"], []]


def refuses(frame: list[Any]) -> list[list[Any]]:
    return [["CLOSED", frame[1], "auth-required: who are you? [auth-required]"]]


def endless(frame: list[Any]) -> list[list[Any]]:
    """It never comes to an end, and what is asked for is not in it."""
    return [["EVENT", frame[1], plain(letter())]] * (NONSENSE_LIMIT + 1)


def endless_of_its_author(frame: list[Any]) -> list[list[Any]]:
    """One and the same event, broken, over and over: it is not even kept past the bound."""
    return bad_signature(frame) * (LETTERS + NONSENSE_LIMIT + 1)


LIES: list[tuple[Lie, type[PennypostError]]] = [
    (bad_signature, NotFound),
    (changed_content, NotFound),
    (other_author, NotFound),
    (other_subscription, NotFound),
    (nothing, NotFound),
    (broken, NotFound),
    (refuses, AuthRequired),
    (endless, OfficeMisbehaves),
    (endless_of_its_author, OfficeMisbehaves),
]


def lying(lie: Lie) -> Callable[[str], list[str]]:
    def frames(text: str) -> list[str]:
        frame = json.loads(text)
        return [json.dumps(each) for each in lie(frame)] if frame[0] == "EVENT" else [text]

    return frames


@pytest.mark.parametrize(("lie", "error"), LIES, ids=[lie.__name__ for lie, _ in LIES])
async def test_a_relay_that_lies_is_not_believed_and_hides_no_letter_of_another(
    client: Make, office: Sandbox, meddler: Meddler, monkeypatch: pytest.MonkeyPatch, lie: Lie, error: type[Exception]
) -> None:
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(1)
    done = await alice.notices.send(bob.npub, "hello Bob")
    meddler.frames = lying(lie)
    with pytest.raises(error):
        await bob.notices.fetch(done.notice)

    async def named(_: object) -> list[Office]:
        return [Office(office.url, office.transport(), bob._desk.store)]

    with monkeypatch.context() as patched:
        patched.setattr(bob.notices, "_named", named)
        mail = await bob.notices.fetch(done.notice)
    assert (mail.text, mail.sender) == ("hello Bob", alice.npub)
    meddler.honest()
    assert (await bob.notices.fetch(done.notice)).text == "hello Bob"


@pytest.mark.parametrize("backwards", [False, True])
async def test_the_order_of_what_a_relay_sends_does_not_matter(client: Make, meddler: Meddler, backwards: bool) -> None:
    """Other letters by the key of a notice, older and newer: none is taken for its own by its place."""
    alice, bob = client(), client(transport=meddler)
    await alice.stamps.buy(3)
    new, _ = alice.notices._fit(bob.identity.pub, False, None, (), 3_600, None)
    for text, tags in (("before", []), ("its own", [new.tag]), ("after", [])):
        made = alice._desk.letter(bob.identity.pub, text, tags=tags, one_time=new.author_secret)
        assert (await alice._desk.post(made.event)).accepted
    waiting: list[str] = []

    def frames(text: str) -> list[str]:
        waiting.append(text)
        if text.startswith('["EVENT"'):
            return []
        *told, end = waiting
        waiting.clear()
        return [*(reversed(told) if backwards else told), end]

    meddler.frames = frames
    assert (await bob.notices.fetch(new.text)).text == "its own"
