"""Channels: a name, a key that its members share, and posts that look like everybody's letters (wire contract, 5).

    create ─▶ invite ─letter─▶ join        one who leaves: a fresh key, told by letter to each who stays
    post ─▶ one event, one stamp at each office, for all members
    read ─▶ each office's feed since the last run: letters that tell of channels first, then posts and the drop box

The owner's word counts: invitations and changes are sealed letters by him, numbered, and an older one changes nothing.
Such a letter is the same event however often it is made, so a repeat after a crash costs no second stamp; a post is
drafted first, and a repeat goes on with it (dispatch.py). Keys of epochs that are over are deleted once the feed of
every office has been read to its end; what was not read by then nobody opens any more. Reading is in reader.py, what is
kept of channels in book.py.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import msgspec

from pennypost.channels.book import (
    KEEP,
    Channel,
    accept_on,
    add_member_on,
    channels_on,
    forget_on,
    grant_on,
    members_on,
    npub_of,
    remove_member_on,
    take_on,
    told_at_on,
    told_on,
    untold_on,
)
from pennypost.channels.reader import Post, Reader
from pennypost.desk import Desk
from pennypost.exchange import Progress
from pennypost.letters import note_of
from pennypost.mail import Privacy, Receipt
from pennypost.office import Office
from pennypost.outbox import PATIENCE
from pennypost.protocol import secp
from pennypost.protocol.channel import (
    KIND_CHANNEL,
    PREFIX,
    TAG,
    Grant,
    chain_of,
    encode_grant,
    epochs_of,
    parse_grant,
    wrap_post,
)
from pennypost.protocol.errors import (
    ChannelUnknown,
    InvalidInput,
    InvalidKey,
    NotChannelOwner,
    NotChannelPoster,
)
from pennypost.protocol.event import Event
from pennypost.protocol.giftwrap import RANDOMNESS, make_rumor
from pennypost.protocol.stealth import Address, lifetime, wrap_letter
from pennypost.together import together

PERIOD: Final = 7 * 86_400
"""Seconds of an epoch unless told otherwise."""


class Channels:
    """The channels of one home, at its offices."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._store, self._people = desk, desk.store, desk.people

    async def create(self, name: str, *, posters: Iterable[str] = (), period: int = PERIOD) -> Channel:
        """A new channel of ours. `posters` (npub, nprofile or hex) may post beside us; nobody named: every member.

        Every `period` seconds its key changes, and the old one is deleted. Raises InvalidInput, InvalidKey.
        """
        owner = self._desk.identity.pub.hex()
        grant = Grant(
            secrets.token_hex(32),
            name,
            owner,
            1,
            self._desk.now(),
            period,
            0,
            chain=secrets.token_hex(32),
            box=_new_key().hex(),
            posters=[(await self._people.key(each)).hex() for each in posters],
        )
        return await self._take(parse_grant(encode_grant(grant)))

    async def all(self) -> list[Channel]:
        """Every channel and invitation, by name."""
        return await self._store.run(channels_on, self._desk.identity.pub.hex())

    async def members(self, channel: str) -> list[str]:
        """npubs of whom we invited. Raises ChannelUnknown, NotChannelOwner."""
        own = await self._own(channel)
        return [npub_of(each) for each in await self._store.run(members_on, own.channel)]

    async def invite(self, channel: str, who: str, *, dry_run: bool = False, patience: float = PATIENCE) -> Receipt:
        """Invite somebody by a letter; again: the same letter. With `dry_run` only its price is said.

        Raises as `AsyncClient.send`, and as `members`.
        """
        own, pub = await self._own(channel), await self._people.key(who)
        if dry_run:
            return await self._price(own, pub.hex())
        await self._store.run(add_member_on, own.channel, pub.hex())
        (receipt,) = await self._tell(own, [pub.hex()], patience)
        return receipt

    async def remove(
        self,
        channel: str,
        who: str,
        *,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Receipt]:
        """Put somebody out: a fresh key and drop box from now on, told to those who stay, a stamp for each.

        Whom it could not be told yet is told by `retell`. With `dry_run` nothing changes, and the receipts say what
        telling each would cost. Raises ChannelUnknown, NotChannelOwner, InvalidInput for who is not in it.
        """
        own, pub = await self._own(channel), (await self._people.key(who)).hex()
        members = await self._store.run(members_on, own.channel)
        if pub not in members:
            raise InvalidInput("this person is not a member")
        fresh = _changed(
            own,
            # A generation is known by its start.
            start=max(self._desk.now(), own.start + 1),
            index=0,
            chain=secrets.token_hex(32),
            box=_new_key().hex(),
            posters=[each for each in own.posters if each != pub],
        )
        if dry_run:
            return [await self._price(fresh, each) for each in members if each != pub]
        await self._store.run(remove_member_on, fresh, pub, self._desk.now())
        return await self.retell(channel, patience=patience, on_progress=on_progress)

    async def allow(
        self,
        channel: str,
        posters: Iterable[str],
        *,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Receipt]:
        """Say anew who may post, and tell every member. Raises as `remove`, and as there with `dry_run`."""
        own = await self._own(channel)
        chain = chain_of(own)
        assert chain is not None
        now = chain.at(max(chain.index, chain.index_at(self._desk.now())))
        named = [(await self._people.key(each)).hex() for each in posters]
        changed = _changed(own, index=now.index, chain=now.key.hex(), posters=named)
        if dry_run:
            return [await self._price(changed, each) for each in await self._store.run(members_on, own.channel)]
        await self._take(parse_grant(encode_grant(changed)))
        return await self.retell(channel, patience=patience, on_progress=on_progress)

    async def retell(
        self,
        channel: str,
        *,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Receipt]:
        """Tell members of the last change who were not told of it yet; harmless when all were. `dry_run` as there."""
        own = await self._own(channel)
        waiting = await self._store.run(untold_on, own.channel, own.version)
        if dry_run:
            return [await self._price(own, each) for each in waiting]
        return await self._tell(own, waiting, patience, on_progress)

    async def join(self, channel: str) -> Channel:
        """Accept an invitation (its id), or take one that came as a word `ppch1…`, also one that was bought.

        Raises ChannelUnknown, InvalidInput.
        """
        if channel.strip().startswith(PREFIX):
            return await self._take(parse_grant(channel))
        return await self._store.run(accept_on, await self._resolve(channel), self._desk.identity.pub.hex())

    async def leave(self, channel: str) -> None:
        """Forget a channel and its keys. Raises ChannelUnknown."""
        await self._store.run(forget_on, await self._resolve(channel))
        await self._store.checkpoint()

    async def sell(self, channel: str, *, at: int | None = None) -> str:
        """The key of one epoch (that of `at`, Unix seconds; now) as a word to sell: it opens that epoch and no other.

        Raises ChannelUnknown, NotChannelOwner, InvalidInput for an epoch whose key is deleted.
        """
        own = await self._own(channel)
        chain = chain_of(own)
        assert chain is not None
        chain = chain.at(chain.index_at(self._desk.now() if at is None else at))
        sold = _changed(own, index=chain.index, chain=None, epoch=chain.epoch().key.hex(), box=None)
        return encode_grant(sold)

    async def post(
        self,
        channel: str,
        text: str,
        *,
        keep: int = KEEP,
        once: str | None = None,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> Receipt:
        """Post to all members at once, for one letter's postage; kept for `keep` seconds, rounded up as a letter's.

        It goes to every office of this client, with a stamp at each. With `dry_run` nothing is sent or spent: `stamps`
        say what it would cost.

        Nothing is posted twice: a post that is still in the outbox, after an error or a crash, goes on with its stamp
        when the same text is posted to the same channel again. With a key of your own (`once`, 1 to 200 characters,
        one of those of `AsyncClient.send`) this holds for a year and after the answer too: the same call again says
        `duplicate` and costs nothing. Raises ChannelUnknown, NotChannelPoster, and as `AsyncClient.send`.
        """
        grant = await self._grant(channel)
        identity, now = self._desk.identity, self._desk.now()
        author = identity.pub.hex()
        if author != grant.owner and grant.posters and author not in grant.posters:
            raise NotChannelPoster
        lasting = lifetime(keep)

        async def seal() -> list[Event]:
            epochs = epochs_of(grant, now, now)
            if not epochs:
                raise ChannelUnknown("its key is no longer, or not yet, good")
            rumor = make_rumor(identity.pub, created_at=now, content=text, tags=[[TAG, grant.channel]])
            event = wrap_post(
                rumor,
                identity.secret,
                epochs[0],
                _new_key(),
                created_at=now,
                expiration=now + lasting,
                randomness=secrets.token_bytes(RANDOMNESS),
            )
            return [event]

        if dry_run:
            return await self._desk.dispatch.price(await seal())
        note = note_of(identity.secret, bytes.fromhex(grant.channel), once, "post", text, lasting)
        # A channel is nobody's key: the outbox names no receiver.
        return await self._desk.dispatch.send(replace(note, receiver=""), seal, patience, on_progress)

    async def read(
        self,
        channel: str | None = None,
        *,
        watch: bool = False,
        privacy: Privacy = "fast",
        on_progress: Progress | None = None,
    ) -> AsyncGenerator[Post]:
        """Posts of one channel, or of all, in the order they came, from where the last run stopped; of all offices,
        each post once.

        Changes that owners tell of are taken on the way. `watch` waits for more and never ends. A post counts as read
        when the next one is asked for. An office that is away is said and left out. Raises ChannelUnknown; where none
        can be read OfficeUnreachable, OfficeMisbehaves.
        """
        only = None if channel is None else await self._resolve(channel)
        desk = self._desk
        sources = [(each.url, self._read(each, only, watch, privacy, on_progress)) for each in desk.offices]
        async with aclosing(sources[0][1] if len(sources) == 1 else together(sources, desk.tell)) as posts:
            async for post in posts:
                yield post

    # Within

    async def _read(
        self, office: Office, only: str | None, watch: bool, privacy: Privacy, on_progress: Progress | None
    ) -> AsyncGenerator[Post]:
        desk = self._desk
        urls = [each.url for each in desk.offices]
        reader = Reader(office, urls, self._store, desk.identity, desk.clock, only)
        posts = reader.read(watch, privacy, on_progress)
        try:
            async with aclosing(posts):
                async for post in posts:
                    yield post
        finally:
            reader.close()

    async def _take(self, grant: Grant) -> Channel:
        own, url = self._desk.identity.pub.hex(), self._desk.offices[0].url
        taken = await self._store.run(take_on, grant, own, url, self._desk.now(), joined=True)
        if taken is None:
            raise InvalidInput("another channel has this id, or there are too many")
        return taken

    async def _resolve(self, name: str) -> str:
        """The id of a channel named by id, the beginning of it, or its name where only one is called so."""
        found = [each for each in await self.all() if each.id == name or each.name == name]
        if not found and len(name) >= 4:
            found = [each for each in await self.all() if each.id.startswith(name)]
        if len(found) != 1:
            raise ChannelUnknown("several have this name: use the id" if found else "")
        return found[0].id

    async def _grant(self, channel: str) -> Grant:
        found = await self._store.run(grant_on, await self._resolve(channel))
        if found is None:
            raise ChannelUnknown("join it first")
        return found

    async def _own(self, channel: str) -> Grant:
        found = await self._grant(channel)
        if found.owner != self._desk.identity.pub.hex() or found.chain is None:
            raise NotChannelOwner
        return found

    async def _price(self, grant: Grant, member: str) -> Receipt:
        """What telling a member would cost."""
        return await self._desk.dispatch.price([self._letter(grant, member, self._desk.now())])

    async def _tell(
        self, grant: Grant, members: Sequence[str], patience: float, on_progress: Progress | None = None
    ) -> list[Receipt]:
        receipts: list[Receipt] = []
        for done, member in enumerate(members):
            if on_progress is not None:
                on_progress("telling members", done, len(members))
            told_at = await self._store.run(told_at_on, grant, member, self._desk.now())
            receipt = await self._desk.post(self._letter(grant, member, told_at), patience)
            if receipt.accepted:
                await self._store.run(told_on, grant, member)
            receipts.append(receipt)
        return receipts

    def _letter(self, grant: Grant, member: str, now: int) -> Event:
        """The same event for the same change, member and time: an office that has it takes no second stamp."""
        identity = self._desk.identity
        chain = chain_of(grant)
        assert chain is not None
        # Who comes later gets nothing that was before.
        chain = chain.at(max(chain.index, chain.index_at(now)))
        content = encode_grant(_changed(grant, version=grant.version, index=chain.index, chain=chain.key.hex()))
        rumor = make_rumor(identity.pub, created_at=now, content=content, kind=KIND_CHANNEL)
        pub = bytes.fromhex(member)
        seed = f"pennypost/channel-letter/v1/{grant.channel}/{grant.version}/{member}/{now}"

        def derived(name: str) -> bytes:
            return hmac.digest(identity.secret, f"{seed}/{name}".encode(), "sha256")

        secp.lift_x(pub)
        for counter in range(256):
            try:
                return wrap_letter(
                    rumor,
                    identity.secret,
                    Address(pub, pub),
                    derived(f"once/{counter}"),
                    created_at=now,
                    expiration=now + KEEP,
                    randomness=b"".join(derived(f"noise/{part}") for part in range(RANDOMNESS // 32)),
                )
            except InvalidKey:
                continue
        raise AssertionError("256 hashes in a row outside the curve order")


def _changed(grant: Grant, **fields: object) -> Grant:
    """The grant with other fields, and a higher version where none is given."""
    return msgspec.structs.replace(grant, **{"version": grant.version + 1, **fields})


def _new_key() -> bytes:
    while not secp.valid_secret(secret := secrets.token_bytes(32)):
        pass
    return secret
