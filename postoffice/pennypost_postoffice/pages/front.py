"""The front page: what is at this address, what it costs, what it keeps and knows, and how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pennypost.protocol.price import PriceList
from pennypost_postoffice.marks import DESCRIPTION
from pennypost_postoffice.operate.prices import kinds_text, rules_of
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.shell import document
from pennypost_postoffice.pages.shop import DAYS, Shop, letter_prices

if TYPE_CHECKING:
    from pennypost_postoffice.office import Office

KIB = 1_024
PLAY = "Play money: invoices here are not real, and stamps of this office are worth nothing."


def front_page(shop: Shop, office: Office | None) -> bytes:
    """The page in UTF-8; `office` is None where this process serves a mint alone."""
    described = "A Cashu mint that sells stamps for post offices over Lightning."
    if office is not None:
        described = (office.marks or {}).get(DESCRIPTION, office.settings.description)
    shout = tag("div", tag("p", tag("strong", PLAY.upper())), class_="notice shout", role="note") if shop.play else None
    buttons = tag(
        "p",
        tag("a", "Buy stamps", href="/buy", class_="button primary"),
        tag("a", "Check a token", href="/buy/check", class_="button"),
        class_="buttons",
    )
    parts = [shout, tag("h1", shop.name), tag("p", described, class_="lead"), buttons]
    if office is not None:
        parts += [_prices(office.policy.prices), _limits(office), _privacy()]
    parts += [_use(shop, office), _contact(shop)]
    return document(
        name=shop.name,
        title="Post office" if office is not None else "Mint",
        main=inside(parts),
        here="/",
        styles=("operator.css",),
        description=described,
    )


def front_text(shop: Shop, office: Office | None) -> str:
    """The same in a few lines, for whoever asks for neither HTML nor JSON."""
    play = f"\n{PLAY.upper()}\n" if shop.play else ""
    if office is None:
        return (
            f"{shop.name}: a Cashu mint that sells stamps\n{play}\n"
            "There is no relay and no post office at this address.\n"
        )
    mints = "the mint at " + office.mints[0] + "".join(f" or {each}" for each in office.mints[1:])
    return f"""{shop.name}: a post office for Nostr
{play}
It is a relay: connect by WebSocket to this address. Most letters need a stamp.
Stamps are Cashu tokens of {mints}, bought at {shop.office}/buy
in a browser, with `pennypost wallet buy 10 --office {shop.office}` or with any Cashu wallet.
Prices and limits: this address, with the header Accept: application/nostr+json
"""


def _prices(prices: PriceList) -> Html:
    rows = letter_prices(prices)
    letters = None
    if rows:
        heads = [
            tag("th", f"{days} day" if days == 1 else f"{days} days", scope="col", class_="number") for days in DAYS
        ]
        body = [
            tag("tr", tag("th", label, scope="row"), [tag("td", _stamps(sat), class_="number") for sat in costs])
            for label, costs in rows
        ]
        letters = _table("A letter, kept for", [tag("th", "Letter", scope="col"), *heads], body)
    titles = ("Kinds", "An event", "Each KiB more", "Each day", "Kept", "At most")
    rules = [
        tag("tr", [tag("td", each, class_="number" if 0 < at < 4 else None) for at, each in enumerate(_rule(rule))])
        for rule in rules_of(prices)
    ]
    heads = [tag("th", name, scope="col", class_="number" if 0 < at < 4 else None) for at, name in enumerate(titles)]
    free = ", ".join(map(str, sorted(prices.free_kinds)))
    return tag(
        "section",
        tag("h2", "Prices"),
        tag("p", "One stamp is worth one sat. Stamps are spent, and never bought back.", class_="soft"),
        letters,
        _table("By kind of event; the first rule that names a kind counts", heads, rules),
        tag("p", f"Without a stamp: kinds {free}." if free else None, class_="soft"),
        class_="panel",
    )


def _table(caption: str, heads: list[Html], rows: list[Html]) -> Html:
    whole = tag("table", tag("caption", caption), tag("thead", tag("tr", heads)), tag("tbody", rows))
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _stamps(sat: int) -> str:
    return "free" if sat == 0 else "1 stamp" if sat == 1 else f"{sat:,} stamps"


def _rule(rule: dict[str, Any]) -> list[str]:
    work = ""
    if rule["work"]:
        work += f", with {rule['work']} bits of work"
    if rule["work_instead"]:
        work += f", or {rule['work_instead']} bits of work"
    return [
        kinds_text(rule["kinds"]),
        _stamps(rule["base"]) + work,
        f"{rule['per_kib']:,}",
        f"{rule['per_day']:,}",
        _days(rule["ttl_default"]),
        _days(rule["ttl_max"]),
    ]


def _days(seconds: int) -> str:
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds // size:,} {unit}{'s' * (seconds // size != 1)}"
    return f"{seconds} seconds"


def _limits(office: Office) -> Html:
    settings = office.settings
    facts = [
        ("Relay address", tag("code", settings.url.replace("http", "ws", 1))),
        ("Stamps of", inside([inside([tag("code", mint), " "]) for mint in office.mints])),
        ("An event", f"at most {settings.max_event // KIB} KiB and {settings.max_tags:,} tags"),
        ("A message", f"at most {settings.max_message // KIB} KiB"),
        ("Subscriptions", f"{settings.max_subscriptions:,} of a connection, {settings.max_filters} filters each"),
        ("A stored query", f"at most {settings.max_limit:,} events"),
        ("Dated ahead", f"at most {settings.max_ahead // 60} minutes"),
        ("Kept", "until the time in the event (NIP-40), else as the price table says; then it is deleted"),
    ]
    listed = [inside([tag("dt", name), tag("dd", what)]) for name, what in facts]
    return tag("section", tag("h2", "Limits and retention"), tag("dl", listed, class_="facts"), class_="panel")


def _privacy() -> Html:
    facts = (
        "Stamps are signed blindly: nobody can tell which purchase a letter’s stamp came from.",
        "A letter’s stamp is taken in the same step that stores the letter, or not at all.",
        "Neither logs nor tables keep your address. Limits on abuse know a number that stands for it while the process "
        "lives.",
        "Who writes to whom: a stealth wrap names neither; an ordinary gift wrap names its receiver.",
        "Expired and deleted mail is deleted from the disk. Backups of the operator’s may be older.",
        "What a network or a hosting provider notes is beyond this page.",
    )
    return tag(
        "section", tag("h2", "What this office knows"), tag("ul", [tag("li", each) for each in facts]), class_="panel"
    )


def _use(shop: Shop, office: Office | None) -> Html:
    relay = shop.office.replace("http", "ws", 1)
    wallet = tag(
        "details",
        tag("summary", "From a Cashu wallet"),
        tag(
            "p",
            "Add the mint ",
            tag("code", shop.mint),
            " (unit sat), and receive over Lightning. What you hold there are "
            "stamps: hand them to any client that asks for a token.",
        ),
    )
    if office is None:
        return tag("section", tag("h2", "How to use it"), wallet, class_="panel")
    where = "" if shop.office == "http://127.0.0.1:3338" else f" --office {shop.office}"
    commands = f"""pip install pennypost
pennypost keys new{where}
pennypost wallet buy 10{where}
pennypost send npub1… "hello"{where}
pennypost inbox{where}"""
    code = f"""from pennypost import Client

with Client("{shop.office}", "my-home") as me:
    me.stamps.buy(10)
    me.send("npub1…", "hello")
    for mail in me.inbox():
        print(mail.sender, mail.text)"""
    return tag(
        "section",
        tag("h2", "How to use it"),
        tag(
            "details",
            tag("summary", "From Keychat"),
            tag(
                "p",
                "Add the relay ",
                tag("code", relay),
                ". Keychat reads the price there, and pays with stamps of its own wallet: add the mint ",
                tag("code", shop.mint),
                " in it and buy some.",
            ),
        ),
        wallet,
        tag("details", tag("summary", "From the command line"), _program("Commands", commands)),
        tag("details", tag("summary", "From Python"), _program("Program", code)),
        tag(
            "details",
            tag("summary", "From any other Nostr client"),
            tag(
                "p",
                "It is a relay at ",
                tag("code", relay),
                ". Reading is free. What is posted needs a stamp: a third "
                "element of the EVENT frame, or the header X-Cashu of ",
                tag("code", f"POST {shop.office}/v1/events"),
                ".",
            ),
        ),
        class_="panel",
    )


def _program(name: str, text: str) -> Html:
    return tag("pre", tag("code", text), tabindex="0", role="region", aria_label=name)


def _contact(shop: Shop) -> Html | None:
    if not shop.contact:
        return None
    return tag(
        "section", tag("h2", "Operator"), tag("p", "Reach the operator: ", tag("code", shop.contact)), class_="panel"
    )
