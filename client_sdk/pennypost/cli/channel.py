"""`pennypost channel`: posts that all members read, and nobody else can tell from a letter."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from pennypost.cli.exit_codes import exit_code
from pennypost.cli.mail import KEEP, TEXT_LIMIT
from pennypost.cli.plugins import Command
from pennypost.cli.price import DryRunOption, show_price
from pennypost.cli.talk import (
    HomeOption,
    JsonOption,
    MintOption,
    OfficeOption,
    QrOption,
    Talk,
    WatchOption,
    called,
    explain,
    plain,
    stamps,
    when,
)
from pennypost.mail import DRY_RUN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pennypost.channels.book import Channel
    from pennypost.channels.reader import Post
    from pennypost.client import AsyncClient
    from pennypost.mail import Receipt

app = typer.Typer(
    help="Channels: create, list, invite, join, post, read, members, allow, remove, retell, sell, leave.",
    no_args_is_help=True,
)

EPOCH: Final = {"1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
ChannelArgument = Annotated[str, typer.Argument(metavar="CHANNEL", help="Its name, its id or the beginning of it.")]
Posters = Annotated[
    list[str] | None, typer.Option("--poster", metavar="WHO", help="Who may post beside you; again for more.")
]


@app.command("create", cls=Command)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What members see it called.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    poster: Posters = None,
    epoch: Annotated[
        Literal["1d", "7d", "30d"], typer.Option("--epoch", help="How often its key changes and the old one goes.")
    ] = "7d",
) -> None:
    """Make a channel of your own. Without --poster every member may post.

    Examples:

      pennypost channel create News
      pennypost channel create Desk --poster npub1… --poster npub1… --epoch 1d
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> Channel:
        return await client.channels.create(name, posters=poster or (), period=EPOCH[epoch])

    _show(talk, talk.run(work))


@app.command("list", cls=Command)
def list_(
    context: typer.Context, home: HomeOption = None, office: OfficeOption = None, as_json: JsonOption = False
) -> None:
    """Your channels, and invitations that wait for `channel join`.

    Examples:

      pennypost channel list
      pennypost channel list --json
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> list[Channel]:
        return await client.channels.all()

    found = talk.run(work)
    for each in found:
        _show(talk, each)
    if not found:
        talk.say("No channels. `pennypost channel read` looks for invitations.")


@app.command("invite", cls=Command)
def invite(
    context: typer.Context,
    channel: ChannelArgument,
    who: Annotated[list[str], typer.Argument(metavar="WHO…", help="npub, nprofile, 64 hex digits or name@domain.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Invite people into a channel of yours: a letter, and so a stamp, for each. Inviting again is harmless.

    Examples:

      pennypost channel invite News npub1… npub1…
      pennypost channel invite News npub1… npub1… --dry-run
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> list[Receipt]:
        return [await client.channels.invite(channel, each, dry_run=dry_run) for each in who]

    _sent(talk, talk.run(work), "Invited")


@app.command("join", cls=Command)
def join(
    context: typer.Context,
    channel: Annotated[
        str, typer.Argument(metavar="CHANNEL|WORD|-", help="An invitation's name or id, or a word ppch1… (- : stdin).")
    ],
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Accept an invitation, or take one that came as a word, also one that was bought.

    Examples:

      pennypost channel join News
      pennypost channel join - < word
    """
    talk = Talk(context, home, office, as_json=as_json)
    wanted = sys.stdin.read(TEXT_LIMIT).strip() if channel == "-" else channel

    async def work(client: AsyncClient) -> Channel:
        return await client.channels.join(wanted)

    _show(talk, talk.run(work))


@app.command("post", cls=Command)
def post(
    context: typer.Context,
    channel: ChannelArgument,
    text: Annotated[str, typer.Argument(metavar="[TEXT|-]", help="The post; - or nothing reads it from stdin.")] = "-",
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    keep: Annotated[Literal["1h", "1d", "7d", "30d"], typer.Option("--keep", help="How long it is kept.")] = "30d",
    once: Annotated[
        str | None, typer.Option("--once", metavar="KEY", help="A name of yours: this is posted once, ever.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Post to all members at once, for the postage of one letter.

    After a failure or a crash run the same command again: what is still in the outbox goes on with its stamp. With
    --once this holds after the answer too, so a script may repeat it.

    Examples:

      pennypost channel post News "meet at nine"
      pennypost channel post News "meet at nine" --once monday
      echo "meet at nine" | pennypost channel post News --keep 1d --json
    """
    talk = Talk(context, home, office, mint, as_json)
    if text == "-":
        text = sys.stdin.read(TEXT_LIMIT).removesuffix("\n")

    async def work(client: AsyncClient) -> Receipt:
        return await client.channels.post(
            channel, text, keep=KEEP[keep], once=once, dry_run=dry_run, on_progress=talk.progress
        )

    _sent(talk, [talk.run(work)], "Posted")


@app.command("read", cls=Command)
def read(
    context: typer.Context,
    channel: Annotated[str | None, typer.Argument(metavar="[CHANNEL]", help="One channel alone.")] = None,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    watch: WatchOption = False,
    privacy: Annotated[
        Literal["fast", "page", "all"],
        typer.Option("--privacy", help="Fetch your posts, the 64 letters around each, or everything."),
    ] = "fast",
) -> None:
    """Read what is new in your channels, and take invitations and changes on the way.

    Examples:

      pennypost channel read
      pennypost channel read News --watch --json
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> tuple[int, list[Channel]]:
        found = 0
        async for each in client.channels.read(channel, watch=watch, privacy=privacy, on_progress=talk.progress):
            contact = await client.contacts.name(each.author)
            talk.result(asdict(each) | {"contact": contact}, _post(each, contact))
            found += 1
        return found, [each for each in await client.channels.all() if not each.joined]

    found, invited = talk.run(work)
    if not found:
        talk.say("No new posts.")
    for each in invited:
        talk.say(f"Invitation to {plain(each.name)} by {each.owner}: pennypost channel join {each.id[:8]}")


@app.command("members", cls=Command)
def members(
    context: typer.Context,
    channel: ChannelArgument,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whom you invited into a channel of yours.

    Examples:

      pennypost channel members News
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> list[str]:
        return await client.channels.members(channel)

    for each in talk.run(work):
        talk.result({"member": each}, each)


@app.command("allow", cls=Command)
def allow(
    context: typer.Context,
    channel: ChannelArgument,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    poster: Posters = None,
    dry_run: DryRunOption = False,
) -> None:
    """Say anew who may post in a channel of yours (without --poster: every member), and tell all members.

    Examples:

      pennypost channel allow News --poster npub1…
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> list[Receipt]:
        return await client.channels.allow(channel, poster or (), dry_run=dry_run, on_progress=talk.progress)

    _sent(talk, talk.run(work), "Told")


@app.command("remove", cls=Command)
def remove(
    context: typer.Context,
    channel: ChannelArgument,
    who: Annotated[str, typer.Argument(help="npub, nprofile, 64 hex digits or name@domain.")],
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Put somebody out: a fresh key from now on, told to those who stay by a letter each.

    What was posted before he can still read; the drop box has another npub from now on.

    Examples:

      pennypost channel remove News npub1… --dry-run
      pennypost channel remove News npub1…
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> list[Receipt]:
        return await client.channels.remove(channel, who, dry_run=dry_run, on_progress=talk.progress)

    _sent(talk, talk.run(work), "Told")


@app.command("retell", cls=Command)
def retell(
    context: typer.Context,
    channel: ChannelArgument,
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Tell members of the last change whom it could not be told before; harmless when all were told.

    Examples:

      pennypost channel retell News
    """
    talk = Talk(context, home, office, mint, as_json)

    async def work(client: AsyncClient) -> list[Receipt]:
        return await client.channels.retell(channel, dry_run=dry_run, on_progress=talk.progress)

    _sent(talk, talk.run(work), "Told")


@app.command("sell", cls=Command)
def sell(
    context: typer.Context,
    channel: ChannelArgument,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    at: Annotated[int | None, typer.Option("--at", help="A Unix time in the epoch to sell; now unless given.")] = None,
    qr: QrOption = False,
) -> None:
    """Print the key of one epoch as a word: who has it reads that epoch and no other. Sell it as an offer's text.

    Examples:

      pennypost channel sell News
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> str:
        return await client.channels.sell(channel, at=at)

    word = talk.run(work)
    talk.draw(word, qr)
    talk.result({"grant": word}, word)


@app.command("leave", cls=Command)
def leave(
    context: typer.Context,
    channel: ChannelArgument,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a channel and its keys; its owner is not told.

    Examples:

      pennypost channel leave News
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> None:
        await client.channels.leave(channel)

    talk.run(work)
    talk.result({"left": channel}, "")
    talk.say("Left; its keys are deleted here.")


def _show(talk: Talk, channel: Channel) -> None:
    state = "yours" if channel.mine else "joined" if channel.joined else "invitation"
    text = f"{plain(channel.name)}  {channel.id[:8]}  {state}"
    if channel.box:
        text += f"\n    drop box {channel.box}"
    talk.result(asdict(channel), text)


def _post(post: Post, contact: str) -> str:
    # Indented, so that no post can look like the beginning of another.
    lines = "\n".join(f"    {line}" for line in plain(post.text).split("\n"))
    place = f"to the drop box of {plain(post.name)}" if post.box else f"in {plain(post.name)}"
    return f"{called(post.author, contact)} {place} on {when(post.sent_at)}\n{lines}\n"


def _sent(talk: Talk, receipts: Sequence[Receipt], done: str) -> None:
    """Every receipt; ends with the exit code of the first refusal."""
    for each in receipts:
        talk.result(asdict(each), "")
    if any(each.code == DRY_RUN for each in receipts):
        return show_price(talk, receipts)
    for each in receipts:
        if each.error is not None:
            talk.say(explain(each.error))
            raise typer.Exit(exit_code(each.error))
    used = sum(each.stamps for each in receipts)
    talk.say(f"{done}: {stamps(used)} used.")
