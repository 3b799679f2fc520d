"""Keysets: which signs, what is out in each, the next one and the end of sales, each with a preview."""

from __future__ import annotations

from collections.abc import Mapping

from pennypost.protocol.errors import NotFound
from pennypost_mint.api import rotation
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.money import KEYSETS
from pennypost_postoffice.pages.operator.view import Row, Table, View, button, form, hidden, notice, table, when

PATH = "/operator/keysets"
TITLE = "Keysets"


async def read(house: House, _query: Mapping[str, str], key: str) -> View:
    """Raises NotFound apart from a mint, DatabaseUnavailable."""
    return await _view(house, key, None)


async def act(house: House, given: Mapping[str, str], key: str) -> View:
    """`do`: preview or rotate (with `final_expiry`); preview-sunset, sunset, preview-resume or resume.

    Raises InvalidInput, NotFound, SeedMismatch, DatabaseUnavailable.
    """
    if not house.keyring.keysets:
        raise NotFound
    do = given.get("do", "")
    if do in ("preview-sunset", "preview-resume"):
        await house.keyring.refresh()
        return await _view(house, key, await _sales_preview(house, key, resume=do == "preview-resume"))
    if do in ("sunset", "resume"):
        await rotation.sunset(house.database, resume=do == "resume")
        await house.keyring.refresh()
        said = (
            "Stamps are sold again." if do == "resume" else "No stamps are sold any more. Those already sold stay good."
        )
        return await _view(house, key, notice(said, "good", role="status"))
    text = given.get("final_expiry", "").strip()
    expiry = rotation.expiry_of(text) if text else None
    rotation.check_expiry(expiry, house.now())
    await house.keyring.refresh()
    coming = house.keyring.rotated(expiry, house.settings().keyset_version)
    if do != "rotate" or given.get("id") != coming.id:
        return await _view(house, key, _preview(key, coming.id, text, expiry))
    if not await rotation.take_up(house.database, coming):
        await house.keyring.refresh()
        said = notice("Somebody else rotated at the same moment. Nothing was changed by you.", "warn", role="alert")
        return await _view(house, key, said)
    await house.keyring.refresh()
    house.books.forget()
    return await _view(house, key, notice("The new keyset signs from now on.", "good", role="status"))


async def _view(house: House, key: str, first: Html | None) -> View:
    if not house.keyring.keysets:
        raise NotFound
    found, _ = await house.books.get()
    rows: list[Row] = [each | {"state": "signs" if each["active"] else "accepted"} for each in found["keysets"]]
    listed = Table("Keysets", KEYSETS, rows)
    since = house.keyring.sunset
    body = [
        tag("h1", TITLE),
        first,
        table(PATH, "keysets", listed),
        _rotation(key),
        _sales(key, since),
    ]
    data = {"selling": since is None, "sunset": since, "keysets": found["keysets"]}
    return View(TITLE, data, inside(body), {"keysets": listed})


def _rotation(key: str) -> Html:
    return form(
        PATH,
        key,
        tag("h2", "Rotate"),
        tag(
            "p",
            "Another keyset signs new stamps; those of the old ones stay good, and wallets go on by themselves.",
            class_="soft",
        ),
        tag(
            "div",
            tag(
                "div",
                tag("label", "Worthless after (UTC), may stay empty", for_="final_expiry"),
                tag("input", type="date", id="final_expiry", name="final_expiry"),
                class_="field",
            ),
            button("Preview", name="do", value="preview"),
            class_="fields",
        ),
        class_="panel",
    )


def _preview(key: str, name: str, text: str, expiry: int | None) -> Html:
    end = (
        "Its stamps stay good for ever."
        if expiry is None
        else inside(
            ["Its stamps are worthless after ", when(expiry), " UTC: balances of people who do not look end there."]
        )
    )
    values = hidden(do="rotate", id=name, final_expiry=text)
    return tag(
        "section",
        tag("h2", "Preview"),
        tag("p", "Nothing is changed yet. The next keyset is ", tag("code", name), ". ", end),
        tag("p", "A rotation cannot be taken back; another one can follow it."),
        form(PATH, key, values, button("Sign with this keyset", primary=True), class_="buttons"),
        class_="panel preview",
    )


def _sales(key: str, since: int | None) -> Html:
    if since is None:
        text = tag("p", "Stamps are sold. When sales end, what is out stays good and what was paid is still given out.")
        return tag(
            "section",
            tag("h2", "Sales"),
            text,
            form(PATH, key, hidden(do="preview-sunset"), button("Stop selling")),
            class_="panel",
        )
    text = tag("p", "No stamps are sold since ", when(since), " UTC. Those sold before stay good.")
    return tag(
        "section",
        tag("h2", "Sales"),
        text,
        form(PATH, key, hidden(do="preview-resume"), button("Sell again", primary=True)),
        class_="panel",
    )


async def _sales_preview(house: House, key: str, *, resume: bool) -> Html | None:
    """What the end of the sales, or of their pause, does; None where it is done already."""
    if resume == (house.keyring.sunset is None):
        return None
    if resume:
        facts = [
            "Wallets and the buy page get invoices again, at every process of this mint.",
            inside(["New stamps are signed by keyset ", tag("code", house.keyring.active().id), "."]),
            "Wallets hear at /v1/info that stamps are sold. Nothing changes for those that are out.",
        ]
        confirm = button("Sell again now", primary=True, name="do", value="resume")
    else:
        found, at = await house.books.get()
        out = f"{found['outstanding']:,} sat of stamps are out, as of "
        paid = f"{found['unclaimed']:,} sat are paid and not given out yet. They still will be,"
        facts = [
            inside([out, when(at), " UTC. They stay good: letters are taken, and stamps swapped, as before."]),
            f"{paid} and so will what is paid late to an invoice that is out.",
            inside(["New invoices are refused (code 20003), and so is ", tag("code", "pennypost mint issue"), "."]),
            "Wallets hear at /v1/info that NUT-04 is disabled, and its message says that what is out stays good.",
        ]
        confirm = button("Stop selling now", primary=True, name="do", value="sunset")
    return tag(
        "section",
        tag("h2", "Preview"),
        tag("p", "Nothing is changed yet, and it can be taken back at any time."),
        tag("ul", *(tag("li", each) for each in facts)),
        form(PATH, key, confirm, class_="buttons"),
        class_="panel preview",
    )
