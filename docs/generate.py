"""Writes the reference pages that are made from the program itself; `--check` only compares.

    errors.md    pennypost.protocol.errors.TABLE
    settings.md  pennypost_mint.runtime.settings.Settings
    commands.md  the `pennypost` command tree
    routes.md    the HTTP routes of one service
    metrics.md   the metrics registry
    packages.md  pyproject.toml

What stands above the line `<!-- generated -->` of a page is written by hand and kept.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
REFERENCE = PROJECT / "docs" / "reference"
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
        (f"`{row['name']}`", f"`{row['default']}`" if row["default"] else "", row["description"])
        for row in settings_table()
    ]
    return table(("name", "default", "meaning"), rows)


def commands() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    import click
    import typer

    from pennypost.cli import app

    def describe(command: click.Command, path: str) -> list[str]:
        if isinstance(command, click.Group) or hasattr(command, "commands"):
            children: dict[str, Any] = command.commands  # type: ignore[union-attr]
            return [line for name in children for line in describe(children[name], f"{path} {name}")]
        summary, *rest = (command.help or "").strip().split("\n\n", 1)
        arguments = " ".join(
            parameter.human_readable_name.upper()
            for parameter in command.params
            if parameter.param_type_name == "argument"
        )
        lines = [f"## `{' '.join(part for part in (path, arguments) if part)}`", "", " ".join(summary.split()), ""]
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        if options:
            rows = [
                (f"`{', '.join((*option.opts, *option.secondary_opts))}`", getattr(option, "help", "") or "")
                for option in options
            ]
            lines += [table(("option", "meaning"), rows)]
        if rest:
            lines += ["```", *(line.strip() for line in rest[0].splitlines() if line.strip()), "```", ""]
        return lines

    return "\n".join(describe(typer.main.get_command(app), "pennypost")).rstrip() + "\n"


def routes() -> str:
    """Every HTTP route of mint and post office in one process."""
    rows = [
        (f"`{method} {path}`", summary)
        for path, method, summary in sorted(asyncio.run(_routes()), key=lambda row: row[0])
    ]
    return table(("route", "what it answers"), rows)


async def _routes() -> list[tuple[str, str, str]]:
    from pennypost_mint.runtime.settings import Settings
    from pennypost_postoffice.app import Service

    with tempfile.TemporaryDirectory() as folder:
        service = await Service.open(Settings(data_dir=Path(folder)), in_process=True)
        try:
            return service.routes()
        finally:
            await service.close()


def metrics() -> str:
    """Every metric of GET /metrics."""
    from pennypost_mint.runtime.metrics import Metrics

    rows = [(f"`{family.name}`", family.type, family.documentation) for family in Metrics().registry.collect()]
    return table(("name", "type", "meaning"), sorted(rows))


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


PAGES: dict[str, Callable[[], str]] = {
    "errors": errors,
    "settings": settings,
    "commands": commands,
    "routes": routes,
    "metrics": metrics,
    "packages": packages,
}


def page(name: str) -> str:
    """The whole text that `docs/reference/<name>.md` should have."""
    written = (REFERENCE / f"{name}.md").read_text()
    head, mark, _ = written.partition(MARK)
    if not mark:
        raise SystemExit(f"docs/reference/{name}.md has no line {MARK}")
    return f"{head}{MARK}\n\n{PAGES[name]()}"


def main(arguments: list[str]) -> int:
    """Writes the pages (all, or those named), or with `--check` lists those out of date (exit code 1)."""
    wanted = [name for name in arguments if name in PAGES] or list(PAGES)
    stale = [name for name in wanted if page(name) != (REFERENCE / f"{name}.md").read_text()]
    for name in stale:
        if "--check" in arguments:
            print(f"docs/reference/{name}.md is out of date: make docs")
        else:
            (REFERENCE / f"{name}.md").write_text(page(name))
            print(f"docs/reference/{name}.md written")
    return int(bool(stale) and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
