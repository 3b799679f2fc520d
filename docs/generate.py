"""Writes the reference pages and the sample file that are made from the program itself; `--check` only compares.

    errors.md    pennypost.protocol.errors.TABLE
    settings.md  pennypost_mint.runtime.settings.Settings
    commands.md  the `pennypost` command tree
    routes.md    the HTTP routes of one service
    metrics.md   the metrics registry
    packages.md  pyproject.toml
    sdk.md       docstrings of what `pennypost` offers
    sample       docs/pennypost.env.example, from the same settings

What stands above the line `<!-- generated -->` of a page is written by hand and kept.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import inspect
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

PROJECT = Path(__file__).parents[1]
REFERENCE = PROJECT / "docs" / "reference"
SAMPLE = PROJECT / "docs" / "pennypost.env.example"
MARK = "<!-- generated: change the program, then `make docs` -->"


def table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; cells are escaped."""
    lines = [list(titles)]
    lines += [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def errors() -> str:
    """Every error: its code, where it shows, what it says and what to do."""
    from pennypost.protocol.errors import TABLE

    rows = [
        (f"`{error.code}`", error.status, f"`{error.prefix}:`", error.cashu or "–", error.sentence(), error.remedy)
        for error in TABLE
    ]
    return table(("code", "HTTP", "OK prefix", "NUT code", "says", "what to do"), rows)


def settings() -> str:
    """Every setting, its default and what it does."""
    from pennypost_postoffice.commands import settings_table

    rows = [
        (
            f"`{row['name']}`",
            f"`{row['default']}`" if row["default"] else "",
            "yes" if row["reloaded"] else "",
            row["description"],
        )
        for row in settings_table()
    ]
    return table(("name", "default", "reload", "meaning"), rows)


GROUPS = {
    "data_dir": "The server",
    "name": "What people are told",
    "mint_seed_file": "The mint",
    "mint_urls": "Stamps of mints elsewhere",
    "lightning": "Lightning: where stamps are paid",
    "invoice_expiry": "Limits of the mint",
    "trusted_proxies": "Reverse proxies",
    "price_file": "Prices",
    "operators": "Operators",
    "private_wraps": "The post office",
    "max_message": "Limits of the post office",
    "sweep_every": "Deletion",
    "bus_url": "Several processes",
    "log": "Logs",
}
"""Parts of the sample file, by the setting that each begins with; settings stand in the order of the program."""

SAMPLE_HEAD = """\
Settings of pennypost: every one, with its default. Take away the # of a line to change it.

Use it with PENNYPOST_SETTINGS=/etc/pennypost.env pennypost up, or as environment file of a service manager.
Values stand without quotes to the end of the line; an empty value is the default.
Instead of any value, PENNYPOST_<NAME>_FILE may name a file that holds it.
Do so for secrets, or let nobody but the server's user read this file (chmod 600).
"Reload": a running server takes it on by SIGHUP or `pennypost office reload`.

Made from the program: change the program, then `make docs`."""


def sample() -> str:
    """A file of settings in which each is commented out, with its default and what it does."""
    from pydantic import SecretStr

    from pennypost_mint.runtime.settings import Settings
    from pennypost_postoffice.commands import settings_table

    lines = _comment(SAMPLE_HEAD)
    for row, (name, field) in zip(settings_table(), Settings.model_fields.items(), strict=True):
        if name in GROUPS:
            lines += ["", "", f"# --- {GROUPS[name]} ---"]
        notes = [row["description"].replace("`", "")]
        if choices := [each for each in get_args(field.annotation) if isinstance(each, str)]:
            notes.append(f"One of {', '.join(choices)}.")
        if field.annotation is SecretStr:
            notes.append(f"Rather set {row['name']}_FILE.")
        if row["reloaded"]:
            notes.append("Reload.")
        lines += ["", *_comment(" ".join(notes)), f"#{row['name']}={row['default']}"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 116, break_on_hyphens=False) or [""]]
    return [f"# {line}".rstrip() for line in lines]


def command_tree() -> dict[str, Any]:
    """Every command by its whole name ("wallet buy"), those of the server among them."""
    import typer

    from pennypost.cli import app

    def leaves(command: Any, path: str) -> dict[str, Any]:
        if not hasattr(command, "list_commands"):
            return {path: command}
        context = typer.Context(command)
        found: dict[str, Any] = {}
        for name in command.list_commands(context):
            found |= leaves(command.get_command(context, name), f"{path} {name}".strip())
        return found

    return leaves(typer.main.get_command(app), "")


def commands() -> str:
    """Every command with its arguments, options and examples, as `--help` has them, and the exit codes."""
    from pennypost.cli.exit_codes import TABLE

    lines: list[str] = []
    for path, command in command_tree().items():
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each.param_type_name == "option"]
        summary, *rest = (command.help or "").strip().split("\n\n", 1)
        lines += [f"## `{' '.join(['pennypost', path, *(each.name.upper() for each in arguments)])}`", ""]
        lines += [" ".join(summary.split()), ""]
        rows = [(f"`{each.name.upper()}`", each.help or "") for each in arguments]
        rows += [(f"`{', '.join([*each.opts, *each.secondary_opts])}`", each.help or "") for each in options]
        if rows:
            lines += [table(("", "meaning"), rows)]
        for block in rest[0].split("\n\n") if rest else []:
            if block.startswith(" "):
                lines += ["```", *(line.strip() for line in block.splitlines()), "```", ""]
            else:
                lines += [" ".join(block.split()), ""]
    lines += ["## Exit codes", "", table(("code", "means"), TABLE)]
    return "\n".join(lines).rstrip() + "\n"


def routes() -> str:
    """Every HTTP route of mint and post office in one process."""
    rows = [
        (f"`{method} {path}`", summary)
        for path, method, summary in sorted(asyncio.run(_routes()), key=lambda row: row[0])
    ]
    return table(("route", "what it answers"), rows)


async def _routes() -> list[tuple[str, str, str]]:
    import httpx

    from pennypost_mint.runtime.settings import Settings
    from pennypost_postoffice.app import Service

    with tempfile.TemporaryDirectory() as folder:
        service = await Service.open(Settings(data_dir=Path(folder)), in_process=True)
        try:
            transport = httpx.ASGITransport(service.asgi)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://docs") as client:
                paths: dict[str, dict[str, Any]] = (await client.get("/openapi.json")).json()["paths"]
        finally:
            await service.close()
    return [
        (path, method.upper(), route["summary"]) for path, methods in paths.items() for method, route in methods.items()
    ]


def metrics() -> str:
    """Every metric of GET /metrics, by the names that queries use."""
    from pennypost_mint.runtime.metrics import Metrics

    rows = [
        (
            ", ".join(f"`{name}`" for name in each.samples),
            each.kind,
            ", ".join(f"`{name}`" for name in each.labels),
            each.text,
        )
        for each in Metrics().table
    ]
    return table(("name", "type", "labels", "meaning"), sorted(rows))


def packages() -> str:
    """What is installed with the SDK, with the server, and to develop."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    groups = {"`pip install pennypost` (the SDK)": project["project"]["dependencies"]}
    groups |= {f"`pennypost[{name}]`": names for name, names in project["project"]["optional-dependencies"].items()}
    groups |= {f"group `{name}`": names for name, names in project["dependency-groups"].items()}
    lines: list[str] = []
    for title, names in groups.items():
        lines += [f"## {title}", "", *(f"- `{name}`" for name in names), ""]
    return "\n".join(lines).rstrip() + "\n"


def sdk() -> str:
    """What `import pennypost` offers: classes with their attributes and methods, functions, by their docstrings."""
    from pennypost import __all__ as names
    from pennypost.protocol.errors import PennypostError

    lines: list[str] = []
    offered = {name: getattr(importlib.import_module("pennypost"), name) for name in sorted(names)}
    classes = {name: each for name, each in offered.items() if inspect.isclass(each)}
    faces = {"AsyncClient": CLIENT_FACES}
    for name, each in offered.items():
        if inspect.isclass(each) and issubclass(each, PennypostError):
            continue
        if not inspect.isclass(each):
            lines += [f"## `{name}{_signature(each)}`", "", _prose(each), ""]
            continue
        lines += [f"## `{name}`", "", _prose(each), "", *_members(each)]
        for attribute, (module, face) in faces.get(name, {}).items():
            found = getattr(importlib.import_module(module), face)
            lines += [f"## `{name}.{attribute}`", "", _prose(found), "", *_members(found)]
    errors = sorted(name for name, each in classes.items() if issubclass(each, PennypostError))
    lines += [
        "## Errors",
        "",
        "Every error is a `PennypostError` with `code`, `remedy` and a sentence; see [Errors](errors.md).",
    ]
    lines += ["Importable from `pennypost`: " + ", ".join(f"`{name}`" for name in errors) + "."]
    return "\n".join(lines).rstrip() + "\n"


CLIENT_FACES = {
    "stamps": ("pennypost.stamps", "Stamps"),
    "purse": ("pennypost.purse", "Purse"),
    "payments": ("pennypost.payments", "Payments"),
    "paid": ("pennypost.paid_mail", "PaidMail"),
    "offers": ("pennypost.offers", "Offers"),
    "notices": ("pennypost.notices", "Notices"),
    "addresses": ("pennypost.addresses", "Addresses"),
    "contacts": ("pennypost.contacts", "Contacts"),
    "channels": ("pennypost.channels", "Channels"),
    "sessions": ("pennypost.sessions.sessions", "Sessions"),
}
"""What hangs on a client, by attribute: module and class."""


def _members(found: type) -> list[str]:
    lines: list[str] = []
    fields = {field.name: field for field in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else {}
    if fields:
        lines += [table(("field", "type"), [(f"`{name}`", f"`{field.type}`") for name, field in fields.items()])]
    made = found.__dict__.get("__init__")
    if made is not None and not fields and made.__doc__:
        lines += [f"### `{found.__name__}{_signature(made)}`", "", _prose(made), ""]
    for name, member in found.__dict__.items():
        if name.startswith("_") or name in fields:
            continue
        if isinstance(member, property) and member.fget is not None:
            lines += [f"### `{name}`", "", _prose(member.fget), ""]
        elif inspect.isfunction(member):
            kind = "await " if inspect.iscoroutinefunction(member) else ""
            lines += [f"### `{kind}{name}{_signature(member)}`", "", _prose(member), ""]
    return lines


class _Text(str):
    """A text that stands in a signature as it is."""

    def __repr__(self) -> str:
        return str(self)


def _signature(function: Any) -> str:
    signature = inspect.signature(function)
    parameters: list[inspect.Parameter] = []
    for name, each in signature.parameters.items():
        if name != "self":
            default = each.default
            if default is not inspect.Parameter.empty and (callable(default) or " at 0x" in repr(default)):
                # What a function looks like in memory differs between runs.
                default = _Text("…")
            parameters.append(each.replace(annotation=_annotation(each.annotation), default=default))
    returned = _annotation(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returned))


def _annotation(found: Any) -> Any:
    return _Text(found) if isinstance(found, str) else found


def _prose(found: Any) -> str:
    """A docstring as Markdown: paragraphs joined, indented blocks as they are."""
    blocks = (inspect.getdoc(found) or "").split("\n\n")
    return "\n\n".join(block if block.startswith("    ") else " ".join(block.split()) for block in blocks)


PAGES: dict[str, Callable[[], str]] = {
    "errors": errors,
    "settings": settings,
    "commands": commands,
    "routes": routes,
    "metrics": metrics,
    "packages": packages,
    "sdk": sdk,
    "sample": sample,
}


def place(name: str) -> Path:
    """The file of one page."""
    return SAMPLE if name == "sample" else REFERENCE / f"{name}.md"


def page(name: str) -> str:
    """The whole text that the file of this page should have."""
    if name == "sample":
        return sample()
    written = place(name).read_text()
    head, mark, _ = written.partition(MARK)
    if not mark:
        raise SystemExit(f"docs/reference/{name}.md has no line {MARK}")
    return f"{head}{MARK}\n\n{PAGES[name]()}"


def main(arguments: list[str]) -> int:
    """Writes the pages (all, or those named), or with `--check` lists those out of date (exit code 1)."""
    wanted = [name for name in arguments if name in PAGES] or list(PAGES)
    stale = [name for name in wanted if not place(name).exists() or page(name) != place(name).read_text()]
    for name in stale:
        shown = f"docs/{place(name).name}" if name == "sample" else f"docs/reference/{name}.md"
        if "--check" in arguments:
            print(f"{shown} is out of date: make docs")
        else:
            place(name).write_text(page(name))
            print(f"{shown} written")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
