"""NIP-17 mail between the SDK and other people's programs, both ways, through an office that wants its stamps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import nostr_sdk
import pytest
import pytest_asyncio

from pennypost import AsyncClient, Mail
from pennypost.protocol import nip19, secp
from tests.postoffice.house import House, open_house, secret_key
from tests.support.foreign import NODE, node
from tests.support.require import require
from tests.support.stamper import stamping

LIBRARIES = ("nostr-tools", "ndk", "nostr-sdk")
PATIENCE = timedelta(seconds=20)
REPLY = "ab" * 32


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with open_house(tmp_path_factory.mktemp("office"), private_wraps=True) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def bob(house: House, tmp_path: Path) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(f"http://127.0.0.1:{house.settings.port}", tmp_path) as client:
        await client.stamps.buy(2)
        yield client


async def write(library: str, url: str, secret: bytes, to: bytes, text: str, subject: str) -> None:
    if library != "nostr-sdk":
        given = {"do": "write", "library": library, "url": url, "secret": secret.hex(), "to": to.hex(), "text": text}
        await asyncio.to_thread(node, "messages.mjs", given=given | {"subject": subject, "reply": REPLY})
        return
    keys = nostr_sdk.Keys.parse(secret.hex())
    tags = [nostr_sdk.Tag.parse(["e", REPLY]), nostr_sdk.Tag.parse(["subject", subject])]
    event = nostr_sdk.nip17_make_private_msg(keys, nostr_sdk.PublicKey.parse(to.hex()), text, rumor_extra_tags=tags)
    client = nostr_sdk.ClientBuilder().authenticator(nostr_sdk.SignerAuthenticator(keys)).build()
    await client.add_relay(nostr_sdk.RelayUrl.parse(url), and_connect=True)
    sent = await client.send_event(event)
    assert list(sent.success) and not sent.failed, sent
    await client.shutdown()


async def read(library: str, url: str, secret: bytes) -> list[dict[str, Any]]:
    if library != "nostr-sdk":
        given = {"do": "read", "library": library, "url": url, "secret": secret.hex()}
        return (await asyncio.to_thread(node, "messages.mjs", given=given))["rumors"]
    keys = nostr_sdk.Keys.parse(secret.hex())
    client = nostr_sdk.ClientBuilder().authenticator(nostr_sdk.SignerAuthenticator(keys)).build()
    await client.add_relay(nostr_sdk.RelayUrl.parse(url), and_connect=True)
    inbox = nostr_sdk.Filter().pubkey(keys.public_key()).kind(nostr_sdk.Kind(1059))
    rumors: list[dict[str, Any]] = []
    for event in await client.fetch_events(nostr_sdk.ReqTarget.auto([inbox]), timeout=PATIENCE):
        gift = nostr_sdk.UnwrappedGift.from_gift_wrap(keys, event)
        rumor = gift.rumor()
        tags = [tag.to_vec() for tag in rumor.tags()]
        rumors.append(
            {"sender": gift.sender().to_hex(), "content": rumor.content(), "kind": rumor.kind().as_u16(), "tags": tags}
        )
    await client.shutdown()
    return rumors


def installed(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "nostr-sdk":
        # its authenticator is called from a thread of its own
        monkeypatch.setattr("nostr_sdk.nostr_sdk._UNIFFI_GLOBAL_EVENT_LOOP", asyncio.get_running_loop())
    else:
        require((NODE / "node_modules" / "@nostr-dev-kit").exists(), "NDK is not installed (make node)")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("library", LIBRARIES)
async def test_they_write_and_we_read(
    house: House, bob: AsyncClient, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(library, monkeypatch)
    secret = secret_key()
    async with stamping(house.settings.port, house.purse.token) as url:
        await write(library, url, secret, bob.identity.pub, "hello Bob ✉", "supper")
    found: list[Mail] = [mail async for mail in bob.inbox(mode="nip17")]
    (mail,) = found
    assert (mail.sender, mail.text) == (nip19.encode_npub(secp.xonly(secret)), "hello Bob ✉")
    assert (mail.subject, mail.reply_to, mail.mode) == ("supper", REPLY, "nip17")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("library", LIBRARIES)
async def test_we_write_and_they_read(
    house: House, bob: AsyncClient, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(library, monkeypatch)
    secret = secret_key()
    to = nip19.encode_npub(secp.xonly(secret))
    receipt = await bob.send(to, "hello you ✉", mode="nip17", subject="supper", reply_to=REPLY)
    assert receipt.accepted and receipt.stamps == 1
    (rumor,) = await read(library, f"ws://127.0.0.1:{house.settings.port}", secret)
    assert (rumor["sender"], rumor["content"], rumor["kind"]) == (bob.identity.pub.hex(), "hello you ✉", 14)
    assert ["p", secp.xonly(secret).hex()] in rumor["tags"]
    assert ["e", REPLY] in rumor["tags"] and ["subject", "supper"] in rumor["tags"]


def test_an_address_with_a_scan_key_is_an_npub_to_others() -> None:
    key, scan = secp.xonly(b"\1" * 32), secp.xonly(b"\2" * 32)
    text = nip19.encode(nip19.Entity("nprofile", key, ("wss://office.example/",), scan=scan))
    read_by_tools = node("messages.mjs", given={"do": "name", "text": text})
    assert read_by_tools == {"type": "nprofile", "data": {"pubkey": key.hex(), "relays": ["wss://office.example/"]}}
    assert nostr_sdk.Nip19Profile.from_bech32(text).public_key().to_hex() == key.hex()
