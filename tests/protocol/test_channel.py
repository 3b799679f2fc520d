"""Channels: opened by who holds the epoch's key, and by nobody else; the same to look at as letters."""

from __future__ import annotations

import random
from base64 import b64decode
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pennypost.protocol import channel, giftwrap, secp
from pennypost.protocol.channel import Chain, ChannelScanner, Epoch, Grant, encode_grant, parse_grant
from pennypost.protocol.errors import InvalidInput, InvalidPayload, LetterTooLarge
from pennypost.protocol.event import Event
from pennypost.protocol.giftwrap import Rumor, make_rumor
from pennypost.protocol.headers import Header, header_of
from pennypost.protocol.stealth import Address, Scanner, open_letter, wrap_letter

AUTHOR, BOB, BOX = (bytes([number]) * 32 for number in (1, 2, 3))
ID, OTHER = "aa" * 32, "bb" * 32
DAY = 86_400
START = 1_700_000_000
CHAIN = Chain(ID, START, 7 * DAY, 0, bytes([9]) * 32)
NOISE = random.Random(7)

VECTORS = {
    "epoch 0": "3e34253fa95d49078b55c538b8875e14bfb35985e9e2e8c7613c1ec59ffb4fda",
    "epoch 3": "30dd81c6db6d224af8813162705296eabcc9564d1bbb0a6b6d17150a64a2fbd5",
    "spend 0": "95d31f1f2b4c3f8576a250b583cb533943b862325f82e7e353af4c258f9b2506",
    "shared 0": "cb40ae80439ac29e33873bbac3d3a9a0d1f6371d214e7f7619a607aca2711937",
}
"""Computed apart from our code, from the formulas in the module's docstring."""


def post(epoch: Epoch, text: str = "hello", *, named: str = ID, once: bytes | None = None, at: int = START) -> Event:
    rumor = make_rumor(secp.xonly(AUTHOR), created_at=at, content=text, tags=[["channel", named]])
    once = once or NOISE.randbytes(32)
    randomness = NOISE.randbytes(giftwrap.RANDOMNESS)
    return channel.wrap_post(rumor, AUTHOR, epoch, once, created_at=at, expiration=at + 7 * DAY, randomness=randomness)


def letter(text: str, at: int = START) -> Event:
    rumor = make_rumor(secp.xonly(AUTHOR), created_at=at, content=text, tags=[["p", secp.xonly(BOB).hex()]])
    address = Address(secp.xonly(BOB), secp.xonly(BOB))
    return wrap_letter(
        rumor,
        AUTHOR,
        address,
        NOISE.randbytes(32),
        created_at=at,
        expiration=at + 7 * DAY,
        randomness=NOISE.randbytes(giftwrap.RANDOMNESS),
    )


def headers(events: list[Event]) -> list[Header]:
    found = [header_of(event, seq) for seq, event in enumerate(events, 1)]
    assert None not in found
    return [header for header in found if header is not None]


def test_keys_of_a_chain() -> None:
    """Fixed values: whoever writes another client must get the same ones."""
    epoch = CHAIN.epoch()
    assert epoch.key.hex() == VECTORS["epoch 0"]
    assert CHAIN.at(3).epoch().key.hex() == VECTORS["epoch 3"]
    assert epoch.spend_pub.hex() == VECTORS["spend 0"]
    assert epoch.shared(secp.xonly(BOB)).hex() == VECTORS["shared 0"]


def test_a_chain_gives_what_comes_and_nothing_that_was() -> None:
    assert [epoch.key for epoch in CHAIN.epochs(2, 5)] == [CHAIN.at(index).epoch().key for index in (2, 3, 4, 5)]
    later = CHAIN.at(4)
    assert later.epochs(0, 4) == [later.epoch()]
    with pytest.raises(InvalidInput):
        later.at(3)
    with pytest.raises(InvalidInput):
        CHAIN.at(channel.MAX_STEPS + 1)
    assert later.epoch().starts_at == START + 28 * DAY
    assert later.epoch().ends_at == START + 35 * DAY


@pytest.mark.parametrize(
    ("seconds", "index"), [(-5, 0), (0, 0), (7 * DAY - 1, 0), (7 * DAY, 1), (70 * DAY, 10)], ids=str
)
def test_the_epoch_of_a_time(seconds: int, index: int) -> None:
    assert CHAIN.index_at(START + seconds) == index


def test_members_find_and_open_a_post() -> None:
    first, second = CHAIN.epochs(0, 1)
    mail = [letter("no post"), post(first, "one"), letter("neither"), post(second, "two"), post(first, "three")]
    found = ChannelScanner([second, first]).scan(headers(mail))
    assert [(hit.header.seq, epoch) for hit, epoch in found] == [(2, first), (4, second), (5, first)]
    texts: list[str] = []
    for hit, epoch in found:
        author, rumor = channel.open_post(mail[hit.header.seq - 1], epoch)
        assert author == secp.xonly(AUTHOR)
        texts.append(rumor.content)
    assert texts == ["one", "two", "three"]
    assert [hit.pubkey.hex() for hit, _ in found] == [mail[hit.header.seq - 1].tags[0][1] for hit, _ in found]


def test_nobody_else_opens_it() -> None:
    first, second = CHAIN.epochs(0, 1)
    stranger = Epoch(ID, first.starts_at, first.ends_at, bytes(32))
    event = post(first)
    for epoch in (second, stranger):
        assert ChannelScanner([epoch]).scan(headers([event])) == []
        with pytest.raises(InvalidPayload):
            channel.open_post(event, epoch)
    assert Scanner(BOB, secp.xonly(BOB)).scan(headers([event])) == []
    with pytest.raises(InvalidPayload):
        open_letter(event, BOB, BOB)


def test_a_post_names_its_channel() -> None:
    """A member of two channels cannot move a post of somebody else from one into the other."""
    epoch = CHAIN.epoch()
    with pytest.raises(InvalidPayload):
        channel.open_post(post(epoch, named=OTHER), epoch)


def test_the_seal_is_bound_to_its_wrap() -> None:
    epoch = CHAIN.epoch()
    event = post(epoch, once=bytes([4]) * 32)
    moved = post(epoch, once=bytes([5]) * 32)
    forged = Event(event.id, event.pubkey, event.created_at, event.kind, event.tags, moved.content, event.sig)
    with pytest.raises(InvalidInput):
        channel.open_post(forged, epoch)


def test_a_post_is_as_long_as_a_letter_may_be() -> None:
    epoch = CHAIN.epoch()
    assert channel.open_post(post(epoch, "x" * 15_000), epoch)[1].content == "x" * 15_000
    with pytest.raises(LetterTooLarge):
        post(epoch, "x" * 16_384)


GRANT = Grant(ID, "News", "cc" * 32, 1, START, 7 * DAY, 0, chain="dd" * 32, box=BOX.hex(), posters=["ee" * 32])


def test_a_grant_travels_as_one_word() -> None:
    assert parse_grant(encode_grant(GRANT)) == GRANT
    assert parse_grant(f"  {encode_grant(GRANT)}\n") == GRANT
    assert "dd" not in repr(GRANT)
    one = Grant(ID, "News", "cc" * 32, 1, START, 7 * DAY, 3, epoch=CHAIN.at(3).epoch().key.hex())
    assert channel.epochs_of(parse_grant(encode_grant(one)), START + 25 * DAY, START + 30 * DAY) == [
        CHAIN.at(3).epoch()
    ]
    assert channel.epochs_of(one, START, START + 20 * DAY) == []


def test_the_epochs_of_a_time() -> None:
    grant = Grant(ID, "News", "cc" * 32, 1, START, 7 * DAY, 1, chain=CHAIN.at(1).key.hex())
    found = channel.epochs_of(grant, START, START + 22 * DAY)
    assert found == CHAIN.epochs(1, 3)
    assert channel.epochs_of(grant, START + 21 * DAY, START + 22 * DAY) == CHAIN.epochs(3, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"channel": "AA" * 32},
        {"channel": "aa" * 31},
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 65},
        {"name": "a\u202eb"},
        {"name": "a\nb"},
        {"version": -1},
        {"period": DAY - 1},
        {"period": 367 * DAY},
        {"index": -1},
        {"index": 2**31 + 1},
        {"start": 2**53},
        {"chain": None},
        {"epoch": "ab" * 32},
        {"box": "00" * 32},
        {"posters": ["ee" * 32] * 201},
        {"posters": ["x"]},
    ],
    ids=str,
)
def test_hostile_grants(change: dict[str, object]) -> None:
    text = encode_grant(Grant(**{**{name: getattr(GRANT, name) for name in Grant.__struct_fields__}, **change}))
    with pytest.raises(InvalidInput):
        parse_grant(text)


@settings(max_examples=200)
@given(st.one_of(st.text(), st.text(alphabet="ABCabc019-_=").map(lambda text: "ppch1" + text)))
def test_a_grant_is_read_or_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_grant(text)


def test_outsiders_cannot_tell_a_post_from_a_letter() -> None:
    """What an office or a listener sees of both: the same fields, the same sizes, and noise that is noise."""
    # What is drawn from it must not depend on which tests came before.
    NOISE.seed(7)
    epoch = CHAIN.epoch()
    lengths = [1, 200, 900, 2_000, 9_000]
    posts = [post(epoch, "x" * length) for length in lengths for _ in range(40)]
    letters = [letter("x" * length) for length in lengths for _ in range(40)]
    seen = [{_looks(event) for event in each} for each in (posts, letters)]
    assert seen[0] == seen[1]
    # The noise: bytes of keys, view tags and contents. Chi squared of both against an even spread, 255 degrees of
    # freedom: beyond 400 chances once in ten million. A bias that told one from the other would stand out in one.
    for each in (posts, letters):
        for field in (_keys, _tags, _contents):
            assert _chi_squared(b"".join(field(event) for event in each)) < 400
    # The parity of what is x-only and the order of R and P*, which a careless tweak would bias.
    for each in (posts, letters):
        higher = sum(event.pubkey > event.tags[0][1] for event in each)
        assert 60 <= higher <= 140
    assert all(a != b for a, b in pairwise(sorted(event.pubkey for event in posts)))


def _looks(event: Event) -> tuple[object, ...]:
    header = header_of(event)
    assert header is not None
    shape = tuple((tag[0], len(tag), len(tag[1])) for tag in event.tags)
    return event.kind, shape, len(event.content), header.size_class, header.ttl_class, header.flags, event.created_at


def _keys(event: Event) -> bytes:
    return bytes.fromhex(event.pubkey + event.tags[0][1])


def _tags(event: Event) -> bytes:
    return bytes.fromhex(event.tags[1][1])


def _contents(event: Event) -> bytes:
    return b64decode(event.content)[1:]


def _chi_squared(noise: bytes) -> float:
    expected = len(noise) / 256
    counted = Counter(noise)
    return sum((counted[value] - expected) ** 2 / expected for value in range(256))


def test_the_rumor_is_the_authors() -> None:
    epoch = CHAIN.epoch()
    rumor = Rumor(secp.xonly(BOB).hex(), START, 14, [["channel", ID]], "hello")
    with pytest.raises(InvalidInput):
        channel.wrap_post(rumor, AUTHOR, epoch, BOX, created_at=START, expiration=START + 60, randomness=bytes(128))
