"""What the office does not take: listed, added, taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pennypost.protocol.errors import InvalidInput, NotFound
from pennypost_postoffice.bans import Ban, Subject, bans_on
from pennypost_postoffice.operate.banning import forbid_on, permit_on, value_of
from pennypost_postoffice.pages.markup import Html, inside, tag
from pennypost_postoffice.pages.operator.house import House
from pennypost_postoffice.pages.operator.view import Table, View, button, form, hidden, notice, table

PATH = "/operator/bans"
TITLE = "Bans"
SUBJECTS: Mapping[str, Subject] = {"pubkey": "pubkey", "event": "event", "kind": "kind"}
COLUMNS: Mapping[str, Any] = {
    "subject": ("What", "text"),
    "value": ("Key, id or kind", "code"),
    "reason": ("Reason", "text"),
    "since": ("Since", "time"),
}
MAX_REASON = 256


async def read(house: House, _query: Mapping[str, str], key: str) -> View:
    """Raises DatabaseUnavailable."""
    return await _view(house, key, None)


async def act(house: House, given: Mapping[str, str], key: str) -> View:
    """`do`: add or remove. Raises InvalidInput, InvalidKey, TooManyBans, NotFound, DatabaseUnavailable."""
    if house.office is None:
        raise NotFound
    subject = SUBJECTS.get(given.get("subject", ""))
    if subject is None:
        raise InvalidInput("an author, an event or a kind")
    value = value_of(subject, given.get("value", "").strip())
    if given.get("do") == "remove":
        await house.database.write(permit_on, subject, value)
        text = f"The ban of this {subject} is taken away."
    else:
        reason = given.get("reason", "").strip()
        if len(reason) > MAX_REASON or "\0" in reason:
            raise InvalidInput(f"a reason of at most {MAX_REASON} characters")
        deleted = await house.database.write(forbid_on, Ban(subject, value, reason, house.now()))
        text = f"Banned: nothing of this {subject} is taken from now on." + " It is deleted." * bool(deleted)
    await house.office.marks_changed()
    return await _view(house, key, notice(text, "good", role="status"))


async def _view(house: House, key: str, said: Html | None) -> View:
    found = [each._asdict() for each in await house.database.read(bans_on)]
    listed = Table("Bans", COLUMNS, list(reversed(found)), "Nobody and nothing is banned.")
    actions = {number: _remove(key, row) for number, row in enumerate(listed.rows)}
    body = [tag("h1", TITLE), said, _add(key), table(PATH, "bans", listed, actions), _lift(key) if found else None]
    return View(TITLE, {"bans": found}, inside(body), {"bans": listed})


def _add(key: str) -> Html:
    return form(
        PATH,
        key,
        tag("h2", "Ban"),
        tag(
            "p",
            "Nothing of it is taken from now on; stored mail stays, except a banned event. No stamp is lost.",
            class_="soft",
        ),
        tag(
            "div",
            _field(
                "What",
                tag(
                    "select",
                    *_options(),
                    name="subject",
                    id="subject",
                ),
                "subject",
            ),
            _field(
                "Key, id or number of the kind",
                tag(
                    "input",
                    name="value",
                    id="value",
                    required=True,
                    maxlength=128,
                    spellcheck="false",
                    autocomplete="off",
                ),
                "value",
            ),
            _field("Reason, for you alone", tag("input", name="reason", id="reason", maxlength=MAX_REASON), "reason"),
            button("Ban", primary=True),
            class_="fields",
        ),
        class_="panel",
    )


def _lift(key: str) -> Html:
    """Of those, too, that are in the files alone."""
    value = tag(
        "input", name="value", id="lifted", required=True, maxlength=128, spellcheck="false", autocomplete="off"
    )
    return form(
        PATH,
        key,
        hidden(do="remove"),
        tag("h2", "Take a ban away"),
        tag(
            "div",
            _field("What", tag("select", *_options(), name="subject", id="lifted-subject"), "lifted-subject"),
            _field("Key, id or number of the kind", value, "lifted"),
            button("Take away"),
            class_="fields",
        ),
        class_="panel",
    )


def _options() -> tuple[Html, ...]:
    return tuple(
        tag("option", text, value=value) for value, text in (("pubkey", "Author"), ("event", "Event"), ("kind", "Kind"))
    )


def _field(label: str, what: Html, name: str) -> Html:
    return tag("div", tag("label", label, for_=name), what, class_="field")


def _remove(key: str, row: Mapping[str, Any]) -> Html:
    values = hidden(do="remove", subject=str(row["subject"]), value=str(row["value"]))
    return form(PATH, key, values, button("Take away", aria_label=f"Take away the ban of {str(row['value'])[:12]}"))
