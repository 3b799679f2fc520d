"""What somebody has deleted leaves no trace in the database's files: by NIP-62, NIP-09 and the operator's command.

Main file, write-ahead log and free pages are searched as bytes, for contents longer than a page, tag values and keys.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pennypost.protocol.event import Event
from pennypost_postoffice.operate.commands import office as command
from tests.postoffice.house import Author, House, open_house, wrap
from tests.postoffice.test_holds import Sale
from tests.support.relay import Relay


class Mail:
    """Events of every form by one author and to it, each with a content of its own, and mail of others that stays."""

    def __init__(self) -> None:
        self.author, self.sale = Author(), Sale()
        self.marks: dict[str, str] = {}
        self.word = secrets.token_hex(12)
        key = self.author.pubkey
        hold = ["hold", self.sale.hold.hex()]
        note = self.author.sign(1, ["t", self.word], ["p", "c" * 64], content=self.mark("note"), age=9)
        self.note = note
        self.versions = [
            self.author.sign(30_023, ["d", f"page-{self.word}"], content=self.mark(f"version {n}"), age=9 - n)
            for n in range(2)
        ]
        self.held = self.author.sign(1, hold, content=self.mark("held"), expires_in=3_600, age=9)
        self.letters = [wrap(key, vt=vt, content=self.mark(f"letter {vt}")) for vt in (False, True)]
        self.kept = Author().sign(1, content=self.mark("kept"))

    def mark(self, name: str) -> str:
        """A content that is longer than a page, so that it lies in overflow pages, too."""
        self.marks[name] = secrets.token_hex(4_000)
        return self.marks[name]

    @property
    def doomed(self) -> list[Event]:
        return [self.note, *self.versions, self.held, *self.letters]


def found(folder: Path, text: str) -> bool:
    """Whether parts of a content, or of a word, stand in a file of the database; read by another process."""
    files = sorted(folder.glob("pennypost.sqlite*"))
    data = subprocess.run(["cat", *files], capture_output=True, check=True).stdout
    parts = [text[start : start + 24].encode() for start in range(0, len(text), 500)]
    return any(part in data for part in parts)


async def by_vanishing(house: House, relay: Relay, mail: Mail) -> None:
    """NIP-62: at once, before the OK."""
    assert (await relay.post(mail.author.sign(62, ["relay", "ALL_RELAYS"]))).accepted


async def by_deleting(house: House, relay: Relay, mail: Mail) -> None:
    """NIP-09, `e` and `a`, of one's own and of gift wraps to oneself: with the next sweep."""
    ids = [["e", event.id] for event in (mail.note, mail.held, *mail.letters)]
    address = ["a", f"30023:{mail.author.pubkey}:page-{mail.word}"]
    assert (await relay.post(mail.author.sign(5, *ids, address))).accepted
    await house.office.retention.sweep()


async def by_the_operator(house: House, relay: Relay, mail: Mail) -> None:
    """`pennypost office delete`, beside the running server: when the command is over."""
    ids = [event.id for event in mail.letters]
    for chosen in (["--author", mail.author.pubkey], ids):
        await asyncio.to_thread(command, ["delete", *chosen, "--yes", "--json"], standalone_mode=False)


WAYS: dict[str, Callable[[House, Relay, Mail], Awaitable[None]]] = {
    "NIP-62": by_vanishing,
    "NIP-09": by_deleting,
    "office delete": by_the_operator,
}


@pytest.mark.parametrize("way", WAYS)
async def test_no_trace_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setenv("PENNYPOST_DATA_DIR", str(tmp_path))
    mail = Mail()
    async with open_house(tmp_path, sweep_every=3_600) as house, house.relay() as relay, house.relay() as reader:
        await house.pay(relay, [*mail.doomed, mail.kept])
        # a version that was replaced in the commit it came in was never written
        replaced = {f"version {number}" for number in range(len(mail.versions) - 1)}
        assert {name for name in mail.marks if not found(tmp_path, mail.marks[name])} <= replaced
        # somebody reads meanwhile: a snapshot that is open keeps the log from being emptied for a moment only
        await reader.send(["REQ", "all", {"kinds": [1]}])
        await WAYS[way](house, relay, mail)
        for name in mail.marks.keys() - {"kept"}:
            assert not found(tmp_path, mail.marks[name]), name
        assert found(tmp_path, mail.marks["kept"])
        # the request of NIP-09 stays, with the address that it names
        if way != "NIP-09":
            assert not found(tmp_path, mail.word), "values of tags"
        assert not found(tmp_path, mail.sale.hold.hex())
        assert await relay.fetch({"ids": [event.id for event in mail.doomed]}) == []
        assert (await relay.release(mail.sale.hold, mail.sale.x, mail.sale.id)).message == "accepted: released 0"
        assert await relay.fetch({"ids": [mail.held.id]}) == []
        if way == "NIP-62":
            assert not found(tmp_path, mail.author.pubkey)
            assert bytes.fromhex(mail.author.pubkey) not in b"".join(
                path.read_bytes() for path in tmp_path.glob("pennypost.sqlite*")
            )
