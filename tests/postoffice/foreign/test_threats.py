"""What a mint elsewhere can do to an office and its senders, and what it learns: the lines of the threats page."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pennypost.protocol.proof import Dleq
from pennypost.protocol.token import Proof
from pennypost_mint.runtime.limits import FOREIGN_AT_ONCE
from pennypost_postoffice.foreign import line, service
from tests.postoffice.foreign.conftest import short_patience
from tests.postoffice.foreign.liar import Liar, Request, never
from tests.postoffice.house import Author, House, open_house
from tests.support.relay import Answer

SWAP = "/v1/swap"


async def test_a_slow_mint_holds_up_nobody_else(
    elsewhere: House, liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Letters with our own stamps, with those of another mint, and reads go on beside twenty that wait for it."""
    # longer than anybody is held back: whoever is held up by it is refused
    monkeypatch.setattr(line, "SECONDS", 600.0)
    async with (
        Liar(elsewhere.url) as other,
        open_house(tmp_path / "both", mint_urls=f"{liar.url},{other.url}") as house,
        house.relay() as crowd,
        house.relay() as relay,
    ):
        liar.lie(SWAP, never)
        author = Author()
        purse = elsewhere.purse
        waiting = [asyncio.create_task(crowd.post(author.sign(1), purse.token(url=liar.url))) for _ in range(20)]
        async with asyncio.timeout(60):
            while not liar.asked[SWAP]:
                await asyncio.sleep(0.005)
        own, theirs = author.sign(1), author.sign(1)
        assert (await relay.post(own, house.purse.token())).accepted
        assert (await relay.post(theirs, purse.token(url=other.url))).accepted
        assert {found["id"] for found in await relay.fetch({"authors": [author.pubkey]})} == {own.id, theirs.id}
        assert not any(task.done() for task in waiting)
        short_patience(monkeypatch, 0.1)
        answers = await asyncio.gather(*waiting)
        assert {answer.code for answer in answers} == {"overloaded"}


async def test_what_waits_for_a_slow_mint_is_bounded(
    elsewhere: House, liar: Liar, office: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound the answer comes at once, and the stamp is untouched; those who wait lose nothing."""
    monkeypatch.setattr(service, "FOREIGN_WAITING", 2)
    go = asyncio.Event()

    async def slow(request: Request) -> Any:
        await go.wait()
        return await request.honest()

    liar.lie(SWAP, slow)
    purse, author = elsewhere.purse, Author()
    proofs = [purse.proof() for _ in range(FOREIGN_AT_ONCE + 2 + 8)]
    posts: dict[asyncio.Task[Answer], Proof] = {}
    async with office.relay() as relay:
        for number, proof in enumerate(proofs, 1):
            posts[asyncio.create_task(relay.post(author.sign(1), purse.token(proof, url=liar.url)))] = proof
            async with asyncio.timeout(60):
                # each of the first has its own swap under way, and only then do the others wait
                while liar.asked[SWAP] < min(number, FOREIGN_AT_ONCE):
                    await asyncio.sleep(0.005)
        refused: set[asyncio.Task[Answer]] = set()
        async with asyncio.timeout(60):
            while len(refused) < 8:
                refused, _ = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(0.01)
        assert {task.result().code for task in refused} == {"overloaded"}
        assert not any(await elsewhere.spent(*(posts[task] for task in refused)))
        go.set()
        answers = await asyncio.gather(*(task for task in posts if task not in refused))
    assert answers and all(answer.accepted for answer in answers)


async def test_a_mint_learns_no_letter(elsewhere: House, liar: Liar, office: House) -> None:
    """Of a letter it sees the stamps and our blinded outputs, from our address: no event, no key, no sender."""
    author = Author()
    event = author.sign(1059, ["p", "ab" * 32], content="for nobody else's eyes")
    dleq = Dleq("11" * 32, "22" * 32, "33" * 32)
    proof = elsewhere.purse.proof()
    token = elsewhere.purse.token(msgspec.structs.replace(proof, dleq=dleq), url=liar.url)
    async with office.relay() as relay:
        assert (await relay.post(event, token)).accepted
    sent = b"".join(body for bodies in liar.bodies.values() for body in bodies).decode() + "".join(liar.heads)
    for told in (event.id, author.pubkey, event.content, event.sig, "ab" * 32, dleq.e, dleq.r or "", token):
        assert told and told not in sent
    (body,) = liar.bodies[SWAP]
    swap = json.loads(body)
    assert set(swap) == {"inputs", "outputs"}
    assert [set(each) for each in swap["inputs"]] == [{"amount", "id", "secret", "C"}]
    assert [set(each) for each in swap["outputs"]] == [{"amount", "id", "B_"}]
    names = {line.partition(":")[0].lower() for head in liar.heads for line in head.split("\r\n")[1:] if line}
    assert names <= {"host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length"}


async def test_two_letters_at_one_mint_look_alike(elsewhere: House, liar: Liar, office: House) -> None:
    """Whoever sends, however long the letter: the requests differ in the stamp and in our outputs alone."""
    async with office.relay() as one, office.relay() as two:
        assert (await one.post(Author().sign(1, content="short"), elsewhere.purse.token(url=liar.url))).accepted
        long = Author().sign(30_023, ["d", "x"], content="long" * 5_000)
        assert (await two.post(long, elsewhere.purse.token(url=liar.url))).accepted
    first, second = liar.bodies[SWAP]
    assert len(first) == len(second)
    heads = {head for head in liar.heads if SWAP in head}
    assert len(heads) == 1


async def test_an_address_in_a_token_is_never_dialled(elsewhere: House, liar: Liar, office: House) -> None:
    """Somebody listens there, and hears nothing; neither of it nor of forms that only look like a mint of ours."""
    async with Liar(elsewhere.url) as stranger, office.relay() as relay:
        port, ours = stranger.port, liar.url.partition("://")[2]
        for url in (
            stranger.url,
            f"{stranger.url}/",
            f"http://localhost:{port}",
            f"http://{ours}@127.0.0.1:{port}",
            f"http://127.0.0.1:{port}/{ours}",
            f"http://127.0.0.1:{port}#{liar.url}",
        ):
            proof = elsewhere.purse.proof()
            answer = await relay.post(Author().sign(1), elsewhere.purse.token(proof, url=url))
            assert not answer.accepted and answer.code in ("stamp-mint", "stamp-malformed"), (url, answer)
            assert await elsewhere.spent(proof) == [False]
        assert stranger.heads == [] and liar.heads == []
