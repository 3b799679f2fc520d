"""Commands that other distributions add: entry points of the group `pennypost.commands`, loaded when they are used.

An entry point is a `typer.Typer` (a group) or a function (a command), mounted under its name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from pennypost._sandbox import load
from pennypost.protocol.errors import ServerExtraMissing

GROUP: Final = "pennypost.commands"
SERVER: Final = ("up", "settings", "db", "play", "mint", "office")
"""Names that the server part has; without it they answer with a sentence."""


class Command(TyperCommand):
    """A command whose examples stay one a line in `--help`."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """The docstring; indented paragraphs are not filled."""
        text = self.help
        self.help = "\n\n".join(f"\b\n{each}" if each[:1] == " " else each for each in (text or "").split("\n\n"))
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = text


class Commands(TyperGroup):
    """The root group: our commands and, loaded one at a time, those of entry points."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Our names in order, then the others'."""
        own = super().list_commands(ctx)
        return own + [name for name in _found() if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command by name."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        entry = _found().get(cmd_name)
        if entry is not None:
            return command(entry)
        return _missing(cmd_name) if cmd_name in SERVER else None


def command(entry: EntryPoint) -> Any:
    """The click command of an entry point; one that explains itself where its packages are not installed."""
    try:
        found: Any = load(entry)
    except ServerExtraMissing:
        return _missing(entry.name)
    if isinstance(found, typer.Typer):
        # As a group also when it has but one command, whose name is part of the line.
        made = typer.main.get_group(found)
        made.name = entry.name
        _plain(made)
        return made
    return _single(entry.name, found)


def _plain(found: Any) -> None:
    """Help as ours is: no markup, and examples one a line."""
    found.rich_markup_mode = None
    if isinstance(found, TyperGroup):
        for each in found.commands.values():
            _plain(each)
    elif isinstance(found, TyperCommand):
        found.__class__ = Command


def _single(name: str, function: Callable[..., Any], **settings: Any) -> Any:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(name, cls=Command, **settings)(function)
    return typer.main.get_command(app)


def _missing(name: str) -> Any:
    def missing() -> None:
        """Needs the server part: pip install 'pennypost[server]'."""
        raise ServerExtraMissing(f"`pennypost {name}`")

    return _single(name, missing, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})


def _found() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}
