"""Commands about purchases: listed, and looked up at the node."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from pennypost.protocol.errors import LightningUnavailable
from pennypost_mint.commands.talk import Json, Progress, run, show, when
from pennypost_mint.runtime.settings import load_settings

MOST_QUOTES = 1_000


def quotes(
    state: Annotated[
        Literal["all", "unpaid", "lapsed", "paid", "issued"], typer.Option(help="Only those in this state.")
    ] = "all",
    limit: Annotated[int, typer.Option(min=1, max=MOST_QUOTES, help="Most quotes of one page.")] = 50,
    before: Annotated[str | None, typer.Option(metavar="QUOTE", help="The page behind this quote.")] = None,
    as_json: Json = False,
) -> None:
    """Purchases, the latest first. A paid quote is an invoice that was paid and whose stamps wait for their buyer.

    Whoever has the id of an unlocked paid quote can have its stamps: show the list to nobody.

    Examples:

      pennypost mint quotes --state paid
      pennypost mint quotes --limit 200 --before 4f1c… --json
    """
    from pennypost_mint.operate import purchases
    from pennypost_mint.operate.opening import opened

    states = purchases.EVERY if state == "all" else (state.upper(),)

    async def work() -> list[Any]:
        async with opened(load_settings()) as database:
            last = await purchases.find(database, before) if before is not None else None
            return await database.read(purchases.page_on, states, last, limit)

    found = run(work())
    behind = found[-1].id if len(found) == limit else None
    lines = [
        f"{each.id}  {each.state:8}{each.amount:>8} sat  paid {each.amount_paid}  issued {each.amount_issued}"
        f"  made {when(each.created_at)}"
        for each in found
    ]
    if behind:
        lines.append(f"more: --before {behind}")
    show({"quotes": [purchases.described(each) for each in found], "before": behind}, "\n".join(lines), as_json)


def reconcile(
    quote: Annotated[
        str | None, typer.Argument(metavar="[QUOTE]", help="One quote: its id, payment hash or invoice.")
    ] = None,
    lapsed: Annotated[bool, typer.Option("--lapsed", help="Also those that the node had given up.")] = False,
    as_json: Json = False,
) -> None:
    """Ask the Lightning node about every open quote, and credit what was paid; safe to repeat, and beside a server.

    For "I paid and got nothing": name the quote. Credited stamps are had by the buyer's wallet, from the same quote.
    Exit code 7 when the node did not answer about all of them.

    Examples:

      pennypost mint reconcile
      pennypost mint reconcile lnbc100n1…
      pennypost mint reconcile --lapsed --json
    """
    from pennypost_mint.lightning.backends import open_lightning
    from pennypost_mint.operate import purchases
    from pennypost_mint.operate.opening import opened
    from pennypost_mint.runtime.metrics import Metrics
    from pennypost_mint.till import Till

    settings = load_settings()
    progress = Progress("looked up", as_json)
    counts: dict[str, int] = {}

    async def work() -> None:
        async with opened(settings) as database:
            lightning = open_lightning(settings, database)
            try:
                till = Till(database, lightning, Metrics())
                if quote is not None:
                    tell(await purchases.look(till, await purchases.find(database, quote)), True)
                    return
                states = purchases.UNPAID if lapsed else purchases.OPEN
                async for each in purchases.reconcile(database, till, states, lambda done: progress.show(done, 0)):
                    tell(each, each.became in ("credited", "lapsed", "too little"))
            finally:
                await lightning.close()

    def tell(looked: Any, worth_a_line: bool) -> None:
        counts[looked.became] = counts.get(looked.became, 0) + 1
        counts["sat"] = counts.get("sat", 0) + looked.credited
        if worth_a_line:
            each = looked.quote
            line = f"{each.id}  {each.amount} sat  {looked.became}" + f" {looked.credited} sat" * bool(looked.credited)
            show(purchases.described(each) | {"became": looked.became, "credited": looked.credited}, line, as_json)

    run(work())
    progress.end()
    total = sum(number for name, number in counts.items() if name != "sat")
    summary = {
        "looked_up": total,
        "credited": counts.get("credited", 0),
        "credited_sat": counts.get("sat", 0),
        "lapsed": counts.get("lapsed", 0),
        "waiting": counts.get("waiting", 0),
        "too_little": counts.get("too little", 0),
        "no_answer": counts.get("no answer", 0),
    }
    show(summary, f"{total} looked up, {summary['credited']} credited ({summary['credited_sat']} sat)", as_json)
    if summary["no_answer"]:
        raise LightningUnavailable
