"""Pieces of pages as files of HTML in html/: `{{name}}` stands for a value, which is escaped unless it is markup."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from pennypost_postoffice.pages.markup import Html, Inside, inside

_PLACE = re.compile(r"\{\{(\w+)\}\}")


def piece(name: str, **values: Inside) -> Html:
    """`html/<name>.html` with its places filled. KeyError for a place without a value."""
    return Html(_PLACE.sub(lambda place: inside(values[place[1]]), _read(name)))


@cache
def _read(name: str) -> str:
    return files("pennypost_postoffice.pages").joinpath("html", f"{name}.html").read_text("utf-8")
