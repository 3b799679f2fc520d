"""`pennypost office treasury …`: what the office earned at mints elsewhere, for its operator.

Each command opens the settings' database beside the servers that run on it, does one thing and ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

from pennypost_mint.runtime.settings import load_settings
from pennypost_postoffice.operate.talk import Progress, say, show

if TYPE_CHECKING:
    from pennypost_mint.runtime.database import Database
    from pennypost_postoffice.foreign.doubt import Doubts
    from pennypost_postoffice.foreign.treasury import Treasury

Json = Annotated[bool, typer.Option("--json", help="JSON on stdout, people's talk on stderr.")]
Mint = Annotated[str | None, typer.Argument(metavar="[MINT]", help="Address of one mint; all of them without it.")]
T = TypeVar("T")

treasury = typer.Typer(
    help="What was earned in stamps of mints elsewhere.", no_args_is_help=True, rich_markup_mode=None
)


class _Open(NamedTuple):
    database: Database
    seed: bytes
    treasury: Treasury

    def urls(self, mint: str | None) -> list[str]:
        """The mints that a command is about, as the settings write them."""
        from pennypost.protocol.token import normal_mint

        return self.treasury.urls if mint is None else [normal_mint(mint)]


@treasury.command("list")
def balances(as_json: Json = False) -> None:
    """What is had at each mint, and letters whose stamps are being swapped; asks nobody.

    Examples:

      pennypost office treasury list
      pennypost office treasury list --json
    """
    from pennypost_postoffice.foreign.doubt import open_on
    from pennypost_postoffice.foreign.treasury import balances_on
    from pennypost_postoffice.operate.opening import opened

    async def run() -> Any:
        async with opened(load_settings()) as database:
            return await database.read(balances_on), *await database.read(open_on)

    found, swaps, closed = _run(run())
    lines = [
        f"{each.mint}: {each.sat} sat in {each.proofs} proofs"
        + f", {each.in_tokens} sat in a token that nobody took yet" * bool(each.in_tokens)
        + (f", {each.under_way} swaps under way since {_when(each.oldest)}" if each.under_way else "")
        for each in found
    ]
    lines += [
        f"  {each['id']}: {each['sat']} sat, {_what(each['letter'])} of {_when(each['since'])},"
        f" last asked {_when(each['asked'])}"
        for each in swaps
    ]
    lines += [
        f"  {each['id']}: {each['sat']} sat, {_what(each['letter'])}, closed {_when(each['closed'])}: {each['reason']}"
        for each in closed
    ]
    result = {"mints": [each._asdict() for each in found], "swaps": swaps, "closed": closed}
    show(result, "\n".join(lines) or "Nothing was earned elsewhere.", as_json)


@treasury.command()
def sweep(mint: Mint = None, as_json: Json = False) -> None:
    """Turn what is had into a token for a wallet of yours: whoever has its text has the money.

    The same token is shown again until its mint says that it was taken, so nothing is lost when a screen is. Small
    proofs are swapped for large ones first. What comes in meanwhile goes into the next token.

    Examples:

      pennypost office treasury sweep
      pennypost office treasury sweep https://mint.example > token.txt
      pennypost office treasury sweep --json
    """

    async def run() -> None:
        async with _opened() as opened:
            for url in opened.urls(mint):
                progress = Progress(f"proofs at {url}", as_json)
                swept = await opened.treasury.sweep(url, _part(progress))
                progress.end()
                if swept.again:
                    say(f"{url}: this token was made before, and nobody took it yet: {swept.sat} sat.")
                elif swept.token is None:
                    say(f"{url}: nothing to sweep.")
                else:
                    say(f"{url}: {swept.sat} sat. Receive this token with a wallet; then sweep again.")
                if swept.token is not None or as_json:
                    show(swept._asdict(), swept.token or "", as_json)

    _run(run())


@treasury.command()
def check(mint: Mint = None, as_json: Json = False) -> None:
    """Ask the mints for every proof: tokens that were taken, and proofs that are lost, are forgotten.

    Examples:

      pennypost office treasury check
      pennypost office treasury check https://mint.example --json
    """

    async def run() -> None:
        async with _opened() as opened:
            for url in opened.urls(mint):
                progress = Progress(f"proofs at {url}", as_json)
                found = await opened.treasury.check(url, _part(progress))
                progress.end()
                text = f"{url}: {found.good} sat good, {found.taken} sat taken from tokens, {found.lost} sat lost"
                show(found._asdict(), text, as_json)

    _run(run())


@treasury.command()
def retry(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]…", help="Swaps; all of them without one.")] = None,
    as_json: Json = False,
) -> None:
    """Ask the mints once more what became of swaps; never for a swap, since nobody waits for it.

    What the mint says now is carried out: the letter is stored and its sender hears `duplicate` when he repeats it, or
    the stamp was left alone and pays when he does. Closed swaps are asked for, too: what was signed for them comes in.

    Examples:

      pennypost office treasury retry
      pennypost office treasury retry 5c83…e1 --json
    """

    async def run() -> list[Any]:
        async with _doubts() as doubts:
            return await doubts.look(ids or ())

    found = _run(run())
    lines = [f"{each.id}: {SAID[each.result]}" for each in found]
    show({"swaps": [each._asdict() for each in found]}, "\n".join(lines) or "No swap is under way.", as_json)


@treasury.command()
def close(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="The swap, as `treasury list` names it.")],
    reason: Annotated[str, typer.Option(help="Kept with it, for you alone.")],
    as_json: Json = False,
) -> None:
    """Wait no longer for a mint that does not say what became of a swap; ten minutes after it was last asked.

    The letter is not stored, and its sender was told so: `overloaded`, to come again with the same stamp. When he does,
    the mint is asked for the same swap as before, so a stamp that it took after all still pays for this letter.

    Examples:

      pennypost office treasury close 5c83…e1 --reason "the mint is gone"
    """

    async def run() -> Any:
        async with _doubts() as doubts:
            return await doubts.close(identifier, reason)

    done = _run(run())
    show(done._asdict(), f"{done.id}: {SAID[done.result]}", as_json)


SAID = {
    "stored": "the mint had taken the stamp: the letter is stored now",
    "over": "the mint had taken the stamp, but the letter was deleted or its time ended meanwhile: it is not stored",
    "changed": "the mint had changed these proofs: the new ones are in the treasury",
    "untouched": "the mint left the stamp alone: it pays when its sender comes again",
    "spent": "the stamp was spent elsewhere: its sender hears so when he comes again",
    "unknown": "the mint does not say; it stays",
    "away": "the mint does not answer; it stays",
    "unlisted": "PENNYPOST_MINT_URLS does not name its mint; it stays",
    "gone": "a server was faster: it is over, or somebody came again",
    "closed": "closed; if its sender comes again with the same stamp, it goes on where it was",
    "collected": "closed before; the mint had signed after all, and the proofs are in the treasury now",
}


@treasury.command()
def backup(file: Annotated[Path, typer.Argument(metavar="FILE")], as_json: Json = False) -> None:
    """Write what is had into a new file. The seed is not in it, and without the seed the file is worth nothing.

    Examples:

      pennypost office treasury backup treasury.json
    """
    from pennypost_postoffice.foreign.backup import write_backup

    settings = load_settings()

    async def run() -> Any:
        async with _opened() as opened:
            return await write_backup(opened.database, opened.seed, file)

    made = _run(run())
    say(f"Keep a copy of the seed, too: {settings.office_seed}")
    counts = {"proofs": len(made.proofs), "closed": len(made.closed)}
    result = {"file": str(file), **counts, "sat": made.sat, "made_at": made.made_at}
    text = f"{made.sat} sat in {counts['proofs']} proofs, {counts['closed']} closed swaps, as of {_when(made.made_at)}"
    show(result, text, as_json)


@treasury.command()
def restore(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A backup; without one, from the seed.")] = None,
    as_json: Json = False,
) -> None:
    """Bring back what is had, from a backup and from the mints themselves, which know what they signed for this seed.

    Put the seed's file where the settings say first. Repeating it is safe. Swaps that were closed come back from a
    backup; `retry` asks what was signed for them.

    Examples:

      pennypost office treasury restore
      pennypost office treasury restore treasury.json
    """
    from pennypost_postoffice.foreign.backup import read_backup

    async def run() -> int:
        async with _opened() as opened:
            came = 0 if file is None else await read_backup(opened.database, opened.seed, file)
            for url in opened.treasury.urls:
                progress = Progress(f"numbers asked at {url}", as_json)
                came += await opened.treasury.restore(url, _part(progress))
                gone = await opened.treasury.check(url, _part(progress))
                came -= gone.lost + gone.taken
                progress.end()
            return came

    came = _run(run())
    show({"sat": came}, f"{came} sat came back.", as_json)


@asynccontextmanager
async def _opened() -> AsyncIterator[_Open]:
    from pennypost_postoffice.foreign.treasury import Treasury
    from pennypost_postoffice.operate.opening import opened
    from pennypost_postoffice.roles import open_office_seed

    settings = load_settings()
    async with opened(settings) as database:
        seed = await open_office_seed(database, settings, make=False)
        held = Treasury(database, settings.mints, seed)
        try:
            yield _Open(database, seed, held)
        finally:
            await held.close()


@asynccontextmanager
async def _doubts() -> AsyncIterator[Doubts]:
    from pennypost_postoffice.foreign.doubt import Doubts
    from pennypost_postoffice.operate.opening import opened
    from pennypost_postoffice.operate.prices import asked
    from pennypost_postoffice.roles import open_office_seed

    settings = load_settings()
    async with opened(settings) as database:
        seed = await open_office_seed(database, settings, make=False)
        found = Doubts(database, settings.mints, seed, await asked(database, settings.price_file))
        try:
            yield found
        finally:
            await found.end()


def _part(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress.show(done, done / total if total else 0.0)


def _run(work: Coroutine[Any, Any, T]) -> T:
    from pennypost_mint.runtime.logs import configure_logs

    # what a mint did wrong is said on stderr: stdout is for the result
    configure_logs(load_settings().log)
    return asyncio.run(work)


def _what(letter: bool) -> str:
    return "a letter" if letter else "change of the treasury's"


def _when(seconds: int | None) -> str:
    return datetime.fromtimestamp(seconds or 0, UTC).strftime("%Y-%m-%d %H:%M UTC")
