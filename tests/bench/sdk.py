"""The SDK: scanning beside the pure cryptography and beside NIP-17, sending, choosing stamps, importing.

scan       Scanner over the bytes of a feed ÷ the least that libsecp256k1 and SHA-256 take for it, by turns
unwrap     one message as a NIP-17 wrap, opened by nostr-sdk
mailbox    the same letters in a mailbox of the same size, a few of them ours: found by their headers and opened, beside
           nostr-sdk, which has to fetch and try every wrap where nobody may see whose it is
sends      wrap + stamp, one after another, at an office in this process (which takes the same processor)
choose     picking the stamps of a letter in a wallet of many, by the transaction that every send makes
imports    `import pennypost`, and its client, ÷ what that imports from elsewhere, each in a process of its own
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from pennypost import AsyncClient, ledger, sandbox
from pennypost.home import Home
from pennypost.protocol import secp
from pennypost.protocol.event import Event, event_json, parse_event
from pennypost.protocol.giftwrap import RANDOMNESS, make_rumor
from pennypost.protocol.headers import RECORD, Header, encode_headers, header_of
from pennypost.protocol.nip17 import message_tags, wrap_message
from pennypost.protocol.stealth import Address, Scanner, open_letter, wrap_letter
from pennypost.protocol.token import Proof
from pennypost.scanning import Scanning, cores
from pennypost.store import Store

LOOK = 2_000
"""Headers of one look at the feed."""
ROUNDS = 5
TEXT = "meet at nine"
OWN = 500
"""One letter in so many of the mailbox is ours: it is that of an office, not of a person."""


class SdkRun(msgspec.Struct):
    """Times of one process in µs or s; sizes in bytes."""

    pure_us: float
    """ECDH and hash of one header: libsecp256k1 called directly, with nothing of ours around."""
    scan_us: float
    scan_ratio: float
    headers: int
    one_process_s: float
    all_cores_s: float
    processes: int
    unwrap_us: float
    """One NIP-17 message opened by nostr-sdk from JSON: parsed, verified, decrypted twice."""
    unwrap_ratio: float
    """`unwrap_us` ÷ `scan_us`."""
    header_bytes: int
    wrap_bytes: int
    bytes_ratio: float
    mailbox: int
    """Letters of the mailbox that both read."""
    mailbox_own: int
    """Those of them that are ours."""
    mailbox_ms: float
    """CPU of a scan of all headers, and of opening our letters."""
    mailbox_bytes: int
    """All headers, and our letters."""
    mailbox_theirs_ms: float
    """CPU of nostr-sdk: every wrap parsed, verified and tried."""
    mailbox_theirs_bytes: int
    mailbox_ratio: float
    mailbox_bytes_ratio: float
    mailbox_named_ms: float
    """CPU of nostr-sdk where wraps name their receiver: it asks for our letters alone, and the office sees whose."""
    sends: float
    """Letters per second, office and mint in the same process."""
    choose_ms: float
    choose_small_ms: float
    stamps: int
    import_ms: float
    """CPU of `import pennypost`, which loads each name when it is first used."""
    client_ms: float
    """CPU of `from pennypost import AsyncClient`, with everything it needs."""
    others_ms: float
    """CPU of importing the same without a line of ours."""


def measure(home: Path, headers: int, unwraps: int, mailbox: int, sends: int, stamps: int) -> SdkRun:
    """Everything, with that many headers, messages, letters and stamps; `home` is an empty folder."""
    secret = secrets.token_bytes(32)
    feed = [secp.xonly(secrets.token_bytes(32)) for _ in range(LOOK)]
    pure_us, scan_us, ratio = _scan(secret, feed)
    one, every = (asyncio.run(_long(secret, feed, headers, workers)) for workers in (1, cores()))
    unwrap_us, size = _unwrap(secret, unwraps)
    box = _mailbox(secret, mailbox)
    small, large = (asyncio.run(_choose(count)) for count in (min(100, stamps), stamps))
    bare, client, others = _imports(home)
    return SdkRun(
        pure_us=pure_us,
        scan_us=scan_us,
        scan_ratio=ratio,
        headers=headers,
        one_process_s=one,
        all_cores_s=every,
        processes=cores(),
        unwrap_us=unwrap_us,
        unwrap_ratio=unwrap_us / scan_us,
        header_bytes=RECORD.size,
        wrap_bytes=size,
        bytes_ratio=size / RECORD.size,
        mailbox=mailbox,
        mailbox_own=box.own,
        mailbox_ms=box.ours_s * 1e3,
        mailbox_bytes=box.ours_bytes,
        mailbox_theirs_ms=box.theirs_s * 1e3,
        mailbox_theirs_bytes=box.theirs_bytes,
        mailbox_ratio=box.theirs_s / box.ours_s,
        mailbox_bytes_ratio=box.theirs_bytes / box.ours_bytes,
        mailbox_named_ms=box.named_s * 1e3,
        sends=asyncio.run(_sends(sends)),
        choose_ms=large,
        choose_small_ms=small,
        stamps=stamps,
        import_ms=bare,
        client_ms=client,
        others_ms=others,
    )


def _timed(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _scan(secret: bytes, feed: Sequence[bytes]) -> tuple[float, float, float]:
    """µs of CPU of the pure cryptography and of a scan, and the median of their ratio, taken by turns."""
    data = encode_headers(0, [Header(number, key, b"\0" * 4, 0, 0) for number, key in enumerate(feed)])
    scanner = Scanner(secret, secp.xonly(secret))
    runs = [(_timed(lambda: pure(secret, feed)), _timed(lambda: scanner.scan(data))) for _ in range(ROUNDS)]
    least = [min(run[side] for run in runs) / len(feed) * 1e6 for side in (0, 1)]
    return least[0], least[1], median(ours / bare for bare, ours in runs)


def pure(secret: bytes, keys: Sequence[bytes]) -> int:
    """The least for one header: read the key, constant-time ECDH with the raw x handed out, one tagged hash."""
    native: Any = import_module("coincurve._libsecp256k1")
    ffi, lib, move = native.ffi, native.lib, native.ffi.memmove
    context: Any = import_module("coincurve.context").GLOBAL_CONTEXT.ctx
    tag = sha256(b"pennypost/viewtag/v1").digest()
    begun, nothing = sha256(tag + tag), ffi.NULL
    key, output = ffi.new("secp256k1_pubkey *"), ffi.new("unsigned char[32]")

    @ffi.callback("int(unsigned char *, const unsigned char *, const unsigned char *, void *)")
    def raw(out: Any, x32: Any, y32: Any, data: Any) -> int:
        move(out, x32, 32)
        return 1

    found = 0
    for each in keys:
        lib.secp256k1_ec_pubkey_parse(context, key, b"\x02" + each, 33)
        lib.secp256k1_ecdh(context, output, key, secret, raw, nothing)
        state = begun.copy()
        state.update(bytes(output) + each)
        found += state.digest()[:4] == b"\0\0\0\0"
    return found


async def _long(secret: bytes, feed: Sequence[bytes], headers: int, workers: int) -> float:
    """Seconds of a whole reading of that many headers, look by look, with the start of the processes."""
    looks = [
        [Header(start + number, key, b"\0" * 4, 0, 0) for number, key in enumerate(feed)]
        for start in range(0, headers, len(feed))
    ]
    scanning = Scanning([secret], secp.xonly(secret), workers)
    begun = time.perf_counter()
    for look in looks:
        await scanning.scan(look)
    taken = time.perf_counter() - begun
    scanning.close()
    return taken


def _unwrap(secret: bytes, count: int) -> tuple[float, int]:
    """µs of CPU that nostr-sdk takes to open one of our NIP-17 wraps from its JSON, and the bytes of one."""
    import nostr_sdk

    sender, receiver = secrets.token_bytes(32), secp.xonly(secret)
    texts: list[str] = []
    for _ in range(count):
        now = int(time.time())
        rumor = make_rumor(secp.xonly(sender), created_at=now, content=TEXT, tags=message_tags(receiver))
        event = wrap_message(
            rumor,
            sender,
            receiver,
            secrets.token_bytes(32),
            sealed_at=now,
            created_at=now,
            now=now,
            keep=86_400,
            randomness=secrets.token_bytes(RANDOMNESS),
        )
        texts.append(event_json(event).decode())
    keys = nostr_sdk.Keys.parse(secret.hex())

    def open_all() -> None:
        for text in texts:
            gift = nostr_sdk.UnwrappedGift.from_gift_wrap(keys, nostr_sdk.Event.from_json(text))
            assert gift.rumor().content() == TEXT

    least = min(_timed(open_all) for _ in range(ROUNDS))
    return least / count * 1e6, len(texts[0])


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One mailbox read by both; CPU in seconds."""

    own: int
    ours_s: float
    ours_bytes: int
    theirs_s: float
    theirs_bytes: int
    named_s: float


def _mailbox(secret: bytes, count: int) -> Mailbox:
    """A mailbox of that many letters, one in OWN of them ours, by stealth for us and as NIP-17 wraps for nostr-sdk."""
    import nostr_sdk

    own, me = max(1, count // OWN), secp.xonly(secret)
    records: list[Header] = []
    letters: dict[bytes, Event] = {}
    wraps: list[str] = []
    for number in range(count):
        sender, now = secrets.token_bytes(32), int(time.time())
        receiver = me if number < own else secp.xonly(secrets.token_bytes(32))
        rumor = make_rumor(secp.xonly(sender), created_at=now, content=TEXT, tags=message_tags(receiver))
        wrap = wrap_message(
            rumor,
            sender,
            receiver,
            secrets.token_bytes(32),
            sealed_at=now,
            created_at=now,
            now=now,
            keep=86_400,
            randomness=secrets.token_bytes(RANDOMNESS),
        )
        wraps.append(event_json(wrap).decode())
        if number >= own:
            # Of others' letters a header is all that we read: any one-time key and tag.
            records.append(Header(number, bytes.fromhex(wrap.pubkey), secrets.token_bytes(4), 0, 0))
            continue
        letter = wrap_letter(
            rumor,
            sender,
            Address(me, me),
            secrets.token_bytes(32),
            created_at=now,
            expiration=now + 86_400,
            randomness=secrets.token_bytes(RANDOMNESS),
        )
        found = header_of(letter)
        if found is None:
            raise RuntimeError("a letter has no header")
        records.append(msgspec.structs.replace(found, seq=number))
        letters[bytes.fromhex(letter.pubkey)] = letter
    data, scanner = encode_headers(0, records), Scanner(secret, me)
    keys = nostr_sdk.Keys.parse(secret.hex())

    def ours() -> None:
        hits = scanner.scan(data)
        opened = [
            open_letter(parse_event(msgspec.json.decode(bodies[hit.header.pubkey])), secret, secret) for hit in hits
        ]
        assert [rumor.content for _, rumor in opened] == [TEXT] * own

    def theirs(texts: Sequence[str]) -> None:
        opened = 0
        for text in texts:
            event = nostr_sdk.Event.from_json(text)
            with suppress(nostr_sdk.NostrSdkError):
                opened += nostr_sdk.UnwrappedGift.from_gift_wrap(keys, event).rumor().content() == TEXT
        assert opened == own

    bodies = {key: event_json(letter) for key, letter in letters.items()}
    return Mailbox(
        own,
        min(_timed(ours) for _ in range(ROUNDS)),
        len(data) + sum(map(len, bodies.values())),
        _timed(lambda: theirs(wraps)),
        sum(map(len, wraps)),
        min(_timed(lambda: theirs(wraps[:own])) for _ in range(ROUNDS)),
    )


async def _sends(count: int) -> float:
    with sandbox() as office:
        async with AsyncClient(office) as alice, AsyncClient(office) as bob:
            await alice.stamps.buy(count + 20)
            for _ in range(10):
                await alice.send(bob.npub, TEXT)
            begun = time.perf_counter()
            for number in range(count):
                receipt = await alice.send(bob.npub, f"{TEXT} {number}")
                if not receipt.accepted:
                    raise RuntimeError(f"a letter was refused: {receipt.code}")
            return count / (time.perf_counter() - begun)


async def _choose(count: int) -> float:
    """ms of the transaction that picks one stamp of that many."""
    mint, store = "http://bench.invalid", Store(Home(None))
    proofs = [Proof(1, "00" * 8, secrets.token_hex(32), "02" + secrets.token_hex(32)) for _ in range(count)]
    await store.run(ledger.add_proofs_on, mint, proofs, "unspent")
    times: list[float] = []
    for _ in range(50):
        begun = time.perf_counter()
        chosen = await store.run(ledger.choose_on, mint, 1)
        times.append(time.perf_counter() - begun)
        if not chosen:
            raise RuntimeError("the wallet found no stamp")
    await store.close()
    return median(times) * 1e3


_IMPORTS = """
import json, sys, time
names = json.loads(sys.argv[1])
begun = time.process_time()
for name in names:
    try:
        __import__(name)
    except ImportError:
        pass  # a part of a compiled module, which came with it
taken = time.process_time() - begun
print(json.dumps([taken, [name for name in sys.modules if name.split(".")[0] != "pennypost"]]))
"""


def _imports(home: Path) -> tuple[float, float, float]:
    """ms of CPU of importing the package, the client with everything it needs, and the same without a line of ours.

    Compiled files are kept in `home`, as an installation keeps them beside the source.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(home)

    def run(names: Sequence[str]) -> tuple[float, list[str]]:
        command = [sys.executable, "-c", _IMPORTS, json.dumps(names)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
        taken, others = json.loads(done.stdout)
        return taken * 1e3, others

    first = run(["pennypost.client"])
    before = set(run([])[1])
    others = [name for name in first[1] if name not in before]
    asked: tuple[Sequence[str], ...] = (["pennypost"], ["pennypost.client"], others)
    bare, client, theirs = (min(run(names)[0] for _ in range(ROUNDS)) for names in asked)
    return bare, client, theirs
