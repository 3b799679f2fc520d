"""`pennypost send` and `pennypost inbox`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from pennypost.cli.exit_codes import exit_code
from pennypost.cli.lines import OF_ONE, parse_line, read_lines
from pennypost.cli.talk import (
    HomeOption,
    JsonOption,
    MintOption,
    OfficeOption,
    Talk,
    WatchOption,
    called,
    explain,
    plain,
    sats,
    stamps,
    when,
)
from pennypost.mail import DUPLICATE
from pennypost.protocol.errors import PennypostError

if TYPE_CHECKING:
    from pennypost.client import AsyncClient
    from pennypost.mail import Mail, Receipt

KEEP: Final = {"1h": 3_600, "1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
TEXT_LIMIT: Final = 64 * 1024
"""Characters read from stdin; a letter holds 16 KiB, and says so itself."""


def send(
    context: typer.Context,
    who: Annotated[
        str | None, typer.Argument(metavar="WHO", help="npub, nprofile, 64 hex digits or name@domain.")
    ] = None,
    text: Annotated[
        str, typer.Argument(metavar="[TEXT|-]", help="The letter; - or nothing reads it from stdin.")
    ] = "-",
    home: HomeOption = None,
    office: OfficeOption = None,
    mint: MintOption = None,
    as_json: JsonOption = False,
    keep: Annotated[Literal["1h", "1d", "7d", "30d"], typer.Option("--keep", help="How long it is kept.")] = "30d",
    max_stamps: Annotated[int, typer.Option("--max-stamps", min=0, help="The most that it may cost.")] = 64,
    session: Annotated[
        bool, typer.Option("--session", help="By keys used once, to each of their devices: pennypost session.")
    ] = False,
    mode: Annotated[
        Literal["stealth", "nip17"],
        typer.Option("--mode", help="nip17: for programs that know no stealth; shows who receives it."),
    ] = "stealth",
    subject: Annotated[str, typer.Option("--subject", help="A new title of the conversation.")] = "",
    reply_to: Annotated[str, typer.Option("--reply-to", metavar="ID", help="The message_id that it answers.")] = "",
    once: Annotated[
        str | None, typer.Option("--once", metavar="KEY", help="A name of yours: this letter is sent once, ever.")
    ] = None,
    jitter: Annotated[
        float, typer.Option("--jitter", min=0, max=3600, help="Send it after a random time of up to so many seconds.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost; send and spend nothing.")] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="Many letters: each line of stdin a JSON object with its `to` and `text`.")
    ] = False,
) -> None:
    """Send a letter that only WHO can find and open. Needs a stamp: pennypost wallet buy 10.

    A letter holds 16 KiB, what surrounds the text included; a longer one is refused before anything is spent.

    After a failure or a crash run the same command again: what is still in the outbox goes on with its stamp. With
    --once this holds after the answer too, so a script may repeat it.

    With --lines each line may have once, subject and reply_to of its own, and its receipt has its number (`line`). A
    letter that cannot be sent stops no other; no stamps, or no answer, ends the command: run it again, with `once`
    nothing is sent twice.

    Examples:

      pennypost send npub1… "meet at nine"
      echo "meet at nine" | pennypost send npub1… --keep 1d --json
      pennypost send npub1… "meet at nine" --mode nip17
      pennypost send npub1… --dry-run < letter.txt
      pennypost send npub1… "invoice 7 is due" --once invoice-7
      jq -c '{to: .npub, text: .note, once: .id}' people.json | pennypost send --lines --json
    """
    talk = Talk(context, home, office, mint, as_json)
    if lines:
        if text != "-" or once or subject or reply_to:
            raise typer.BadParameter("with --lines the text, once, subject and reply_to are in the lines")
        shared = {"keep": KEEP[keep], "mode": mode, "session": session, "jitter": jitter, "dry_run": dry_run}
        _send_lines(talk, who or "", max_stamps, shared)
        return
    if who is None:
        raise typer.BadParameter("it is missing: who gets the letter?", param_hint="WHO")
    if text == "-":
        text = sys.stdin.read(TEXT_LIMIT).removesuffix("\n")

    async def work(client: AsyncClient) -> tuple[Receipt, int]:
        receipt = await client.send(
            who,
            text,
            keep=KEEP[keep],
            mode=mode,
            subject=subject,
            reply_to=reply_to,
            session=session,
            once=once,
            jitter=jitter,
            dry_run=dry_run,
            on_progress=talk.progress,
        )
        return receipt, await client.stamps.balance()

    receipt, left = talk.run(work, max_stamps=max_stamps)
    talk.result(asdict(receipt) | {"balance": left}, "")
    if receipt.error is not None:
        talk.say(explain(receipt.error))
        if receipt.reason:
            talk.say(f"The office's words: {plain(receipt.reason)}")
        raise typer.Exit(exit_code(receipt.error))
    if dry_run:
        for each in receipt.relays:
            talk.say(f"{plain(each.office)} asks {stamps(each.stamps)}.")
        talk.say(f"Nothing was sent. It would cost {stamps(receipt.stamps)} of {left}.")
        return
    for each in receipt.parts:
        if each.error is not None:
            talk.say(f"{plain(each.office)}: {explain(each.error)}")
    kept = f"kept until {when(receipt.kept_until)}: {stamps(receipt.stamps)} used, {left} left."
    talk.say(f"Sent before, {kept}" if receipt.code == DUPLICATE and not receipt.stamps else f"Sent, {kept}")


def _send_lines(talk: Talk, who: str, max_stamps: int, shared: dict[str, Any]) -> None:
    """Every line's receipt; ends with the exit code of the first that was not sent."""
    failed: PennypostError | None = None
    count = sent = used = 0
    with talk.client(max_stamps=max_stamps) as client:
        for number, text in read_lines(sys.stdin):
            talk.progress("sending", count, 0)
            count += 1
            try:
                line = parse_line(text)
                own: dict[str, Any] = {"once": line.once, "subject": line.subject, "reply_to": line.reply_to}
                receipt = client.send(line.to or who, line.text, **shared, **own)
            except OF_ONE as error:
                failed = failed or error
                talk.result({"line": number, "error": error.code, "message": str(error), "remedy": error.remedy}, "")
                talk.say(f"Line {number}: {explain(error)}")
                continue
            talk.result({"line": number} | asdict(receipt) | {"balance": client.stamps.balance()}, "")
            used += receipt.stamps
            if receipt.error is None:
                sent += 1
            else:
                failed = failed or receipt.error
                talk.say(f"Line {number}: {explain(receipt.error)}")
    if shared["dry_run"]:
        talk.say(f"Nothing was sent. {sent} of {count} letters would cost {stamps(used)}.")
    else:
        talk.say(f"Sent {sent} of {count} letters: {stamps(used)} used.")
    if failed is not None:
        raise typer.Exit(exit_code(failed))


def inbox(
    context: typer.Context,
    home: HomeOption = None,
    office: OfficeOption = None,
    as_json: JsonOption = False,
    watch: WatchOption = False,
    again: Annotated[
        bool, typer.Option("--again", help="Show everything that is still kept, also what was read.")
    ] = False,
    privacy: Annotated[
        Literal["fast", "page", "all"],
        typer.Option("--privacy", help="Fetch your letters, the 64 around each, or everything."),
    ] = "fast",
    mode: Annotated[
        Literal["stealth", "nip17", "both"],
        typer.Option("--mode", help="nip17: mail of other programs, asked for by your npub: the office learns it."),
    ] = "stealth",
    contacts_only: Annotated[
        bool, typer.Option("--contacts-only", help="Pass over letters of all but your contacts (--again shows them).")
    ] = False,
) -> None:
    """Read your mail: finds what is for you in the public list of headers, fetches and opens it.

    Examples:

      pennypost inbox
      pennypost inbox --watch --json
      pennypost inbox --json | jq -r '.contact + ": " + .text'
      pennypost inbox --mode both
      pennypost inbox --contacts-only
    """
    talk = Talk(context, home, office, as_json=as_json)

    async def work(client: AsyncClient) -> int:
        found = 0
        letters = client.inbox(
            watch=watch,
            again=again,
            privacy=privacy,
            mode=mode,
            contacts_only=contacts_only,
            on_progress=talk.progress,
        )
        async for mail in letters:
            show_mail(talk, mail, await client.contacts.name(mail.sender))
            found += 1
        return found

    if not talk.run(work):
        talk.say("No new mail.")


def show_mail(talk: Talk, mail: Mail, contact: str) -> None:
    """One letter, with what we call its writer; what he only says of a payment is left out."""
    shown = asdict(mail)
    del shown["proof"]
    talk.result(shown | {"contact": contact}, _letter(mail, contact))


def _letter(mail: Mail, contact: str) -> str:
    # Indented, so that no letter can look like the beginning of another.
    lines = "\n".join(f"    {line}" for line in plain(mail.text).split("\n"))
    paid = f", with {sats(mail.paid_msat)}" if mail.paid_msat else ""
    subject = f"\n    [{plain(mail.subject)}]" if mail.subject else ""
    file = f" ({plain(mail.file.media_type)}, encrypted: --json shows its key)" if mail.file else ""
    return f"From {called(mail.sender, contact)} on {when(mail.sent_at)}{paid}{subject}\n{lines}{file}\n"
