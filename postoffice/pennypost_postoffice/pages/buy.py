"""The buy page, the page that pays from a connected wallet, and the one that checks and merges tokens.

Their markup is in html/; what moves in it is in postoffice/pages/src, by the ids that are there.
"""

from __future__ import annotations

import json

from pennypost_postoffice.pages.markup import Html, tag
from pennypost_postoffice.pages.shell import document
from pennypost_postoffice.pages.shop import DAYS, Shop, letter_prices
from pennypost_postoffice.pages.templates import piece

PACKS = (10, 100, 1_000)
PRESET = 100


def buy_page(shop: Shop) -> bytes:
    """`/buy`."""
    main = piece(
        "buy",
        shop=_data(shop),
        play=_play(shop),
        choose=piece("choose", packs=[_pack(count) for count in PACKS], prices=_prices(shop, "prices")),
        pay=piece("pay"),
        done=piece("done", mint=shop.mint),
        over=piece("over"),
        trouble=_trouble(shop),
        kept=piece("kept"),
        without_script=piece(
            "without_script", mint=shop.mint, office=shop.office, prices=_prices(shop, "prices-plain")
        ),
        questions=piece("questions", mint=shop.mint),
    )
    about = f"Stamps of {shop.name}, paid from any Lightning wallet."
    return _page(shop, "/buy", "Buy stamps", main, "buy.js", about)


def wallet_page(shop: Shop) -> bytes:
    """`/buy/wallet`: pays one invoice of this mint from a wallet connected by NIP-47."""
    main = piece("wallet", shop=_data(shop), play=_play(shop))
    return _page(shop, "/buy/wallet", "Pay from a connected wallet", main, "wallet.js")


def check_page(shop: Shop) -> bytes:
    """`/buy/check`: which stamps of a token are unspent, and one token made of several."""
    done = piece("done", mint=shop.mint)
    main = piece("check", shop=_data(shop), play=_play(shop), done=done, trouble=_trouble(shop))
    about = "Which stamps of a token are unspent, and one token out of several."
    return _page(shop, "/buy/check", "Check a token", main, "check.js", about)


def _page(shop: Shop, path: str, title: str, main: Html, script: str, about: str = "") -> bytes:
    return document(
        name=shop.name,
        title=title,
        main=main,
        here=path,
        styles=("buy.css",),
        scripts=(script,),
        description=about,
    )


def _data(shop: Shop) -> str:
    """What the scripts know of the shop, as JSON for an attribute."""
    known = {"mint": shop.mint, "at": shop.at, "office": shop.office, "most": shop.most, "play": shop.play}
    return json.dumps(known, separators=(",", ":"))


def _play(shop: Shop) -> Html | None:
    return piece("play") if shop.play else None


def _trouble(shop: Shop) -> Html:
    return piece("trouble", contact=f" Or ask the operator: {shop.contact}." if shop.contact else "")


def _pack(count: int) -> Html:
    face = tag(
        "span",
        tag("span", f"{count:,}", class_="count"),
        tag("span", f"{count:,} sat", class_="price"),
        class_="face",
    )
    choice = tag("input", type="radio", name_="pack", value=count, checked=count == PRESET)
    return tag("label", choice, face, class_="pack")


def _prices(shop: Shop, name: str) -> Html | None:
    """What letters cost here, as a table under the id `name`; None where nothing is known or no letters are taken."""
    rows = letter_prices(shop.prices) if shop.prices else []
    if not rows:
        return None
    least = rows[0][1][-1]
    heads = [tag("th", f"{days} day" if days == 1 else f"{days} days", scope="col", class_="number") for days in DAYS]
    body = [
        tag("tr", tag("th", label, scope="row"), [tag("td", _cost(sat), class_="number") for sat in costs])
        for label, costs in rows
    ]
    return tag(
        "section",
        tag("h2", "What they buy here", id=name),
        tag("p", "" if least else "Letters are free at this office.", class_="buys", data_letter=least),
        tag("table", tag("thead", tag("tr", tag("th", "Kept for", scope="col"), heads)), tag("tbody", body)),
        class_="aside",
        aria_labelledby=name,
    )


def _cost(sat: int) -> str:
    if sat == 0:
        return "free"
    return "1 stamp" if sat == 1 else f"{sat:,} stamps"
