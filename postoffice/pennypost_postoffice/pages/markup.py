"""Markup built by functions: whatever is not markup is escaped when it is put into it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Html(str):
    """Markup. A plain `str` is text, and never becomes markup by being put into some."""

    __slots__ = ()


Inside = Html | str | int | float | None | Iterable["Inside"]
"""What stands in an element; None is nothing."""

Value = str | int | float | bool | None
"""Of an attribute; True: the bare name, False and None: left out."""

_EMPTY = frozenset({"br", "hr", "img", "input", "line", "path", "rect"})


def inside(what: Inside) -> Html:
    """The markup of all of it, one after another."""
    if what is None:
        return Html()
    if isinstance(what, Html):
        return what
    if isinstance(what, str):
        return Html(escape(what))
    if isinstance(what, int | float):
        return Html(what)
    return Html("".join(map(inside, what)))


def tag(name: str, /, *what: Inside, **attributes: Value) -> Html:
    """One element. Attributes: `class_` is `class`, `aria_label` is `aria-label`."""
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    # SVG's need the slash, HTML's may have it
    return Html(f"<{name}{given}/>" if name in _EMPTY else f"<{name}{given}>{inside(what)}</{name}>")
