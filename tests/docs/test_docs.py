"""Docs that cannot rot: what the program has is documented, what is documented exists."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from pennypost import Client
from pennypost.protocol.errors import TABLE
from pennypost_mint.runtime.settings import CLIENT_NAMES, PREFIX, RELOADED, Settings, load_settings

PROJECT = Path(__file__).parents[2]
PAGES = sorted([PROJECT / "README.md", *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("requirements/*.md")])
TEXTS = [*PAGES, PROJECT / "Dockerfile", PROJECT / "compose.yaml", PROJECT / "docs" / "pennypost.env.example"]


def _name(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", PROJECT / "docs" / "generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generator()


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_page_is_what_the_program_has(name: str) -> None:
    assert generate.place(name).read_text() == generate.page(name), "run `make docs`"


def test_check_tells_a_stale_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "errors.md").write_text(f"# Errors\n\n{generate.MARK}\n\nold\n")
    monkeypatch.setattr(generate, "REFERENCE", tmp_path)
    monkeypatch.setattr(generate, "PAGES", {"errors": generate.errors})
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_every_setting_of_the_sample_file_is_read_with_its_default(tmp_path: Path) -> None:
    """With every # taken away it is a settings file that changes nothing."""
    text = re.sub(f"^#({PREFIX})", r"\1", generate.SAMPLE.read_text(), flags=re.MULTILINE)
    named = re.findall(rf"^{PREFIX}(\w+)=", text, re.MULTILINE)
    assert [name.lower() for name in named] == list(Settings.model_fields)
    (tmp_path / "all.env").write_text(text)
    assert load_settings({"PENNYPOST_SETTINGS": str(tmp_path / "all.env")}) == load_settings({})
    for name, value in re.findall(rf"^({PREFIX}\w+)=(.*)$", text, re.MULTILINE):
        assert load_settings({name: value}) == load_settings({}), name


def test_the_sample_file_says_what_is_secret_and_what_is_reloaded() -> None:
    entries = generate.SAMPLE.read_text().split("\n\n")
    for name, field in Settings.model_fields.items():
        (entry,) = (entry for entry in entries if f"#{PREFIX}{name.upper()}=" in entry)
        assert (f"{PREFIX}{name.upper()}_FILE" in entry) == (field.annotation is SecretStr)
        assert field.annotation is not SecretStr or "a secret" in entry
        assert entry.partition(f"#{PREFIX}")[0].rstrip().endswith("Reload.") == (name in RELOADED)
    assert generate.GROUPS.keys() <= Settings.model_fields.keys()


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{_name(path)} links to {target}"


@pytest.mark.parametrize("path", sorted(PROJECT.glob("docs/**/*.md")), ids=_name)
def test_every_page_is_reached_from_the_index(path: Path) -> None:
    if path == PROJECT / "docs" / "README.md":
        return
    indexes = [PROJECT / "docs" / "README.md", path.parent / "README.md"]
    linked = {
        (index.parent / target).resolve()
        for index in indexes
        if index.exists()
        for target in re.findall(r"\]\(([^)#:\s]+)", index.read_text())
    }
    assert path in linked


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_settings_named_in_texts_exist(path: Path) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {PREFIX + name for name in CLIENT_NAMES}
    known |= {f"{name}_FILE" for name in known}
    assert set(re.findall(r"PENNYPOST_[A-Z_]*[A-Z]", path.read_text())) <= known


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_commands_named_in_texts_exist(path: Path) -> None:
    known = generate.command_tree()
    parts = {" ".join(name.split()[:count]) for name in known for count in (1, 2)}
    for line in re.findall(r"(?:^ +|`)(?:\.venv/bin/)?pennypost ([a-z][^`\n#]*)", path.read_text(), re.MULTILINE):
        words = [word for word in line.split()[:2] if re.fullmatch(r"[a-z-]+", word)]
        assert " ".join(words) in parts or words[0] in known, f"{_name(path)}: pennypost {line}"


@functools.cache
def _options() -> dict[str, set[str]]:
    """The options of every command by its whole name, with those that may stand before any."""
    root = {"--home", "--office", "--mint", "--json", "--version", "--help"}
    return {
        name: root | {each for param in command.params for each in (*param.opts, *param.secondary_opts)}
        for name, command in generate.command_tree().items()
    }


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_options_named_in_texts_exist(path: Path) -> None:
    known = _options()
    for line in re.findall(r"(?:^ +|`)(?:\.venv/bin/)?pennypost ([a-z][^`\n#|<>;&$]*)", path.read_text(), re.MULTILINE):
        words = line.split()
        name = next((each for size in (3, 2, 1) if (each := " ".join(words[:size])) in known), None)
        named = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", line))
        assert name is None or named <= known[name], f"{_name(path)}: pennypost {line}"


@pytest.mark.parametrize("path", [each for each in PAGES if each.name != "sdk.md"], ids=_name)
def test_calls_named_in_texts_can_be_made(path: Path, tmp_path: Path) -> None:
    """`client.send(npub, text, session=True)` in a text: both clients have the verb, and it takes these arguments."""
    calls = re.findall(r"\bclient(?:\.[a-z_]+)+\([^()`]*\)", path.read_text())
    with Client("http://127.0.0.1:1", tmp_path) as client:
        for owner in (client, client._client):
            for text in calls:
                call = ast.parse(text, mode="eval").body
                assert isinstance(call, ast.Call)
                names = ast.unparse(call.func).split(".")[1:]
                verb = functools.reduce(getattr, names, owner)
                arguments = [None] * len(call.args)
                inspect.signature(verb).bind(*arguments, **{str(each.arg): None for each in call.keywords})


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_make_targets_named_in_texts_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^ +|`)make ([a-z]+)", path.read_text(), re.MULTILINE)) <= targets


def test_codes_of_the_behaviour_page_are_in_the_table() -> None:
    text = (PROJECT / "docs" / "reference" / "behaviour.md").read_text()
    cells = [line.split("|")[3] for line in text.splitlines() if line.startswith("| ")]
    named = {code for cell in cells for code in re.findall("`([a-z-]+)`", cell)}
    assert named and named <= {error.code for error in TABLE}


def _is_there(name: str) -> bool:
    """Whether a file or a dotted name of the behaviour page leads to something."""
    if name.endswith(".py"):
        return any((folder / name).exists() for folder in (PROJECT, *SOURCES.values()))
    parts = name.split(".")
    for package in SOURCES:
        for count in range(len(parts), 0, -1):
            with contextlib.suppress(ModuleNotFoundError, AttributeError):
                functools.reduce(getattr, parts[count:], importlib.import_module(".".join([package, *parts[:count]])))
                return True
    return False


SOURCES = {
    "pennypost_postoffice": PROJECT / "postoffice" / "pennypost_postoffice",
    "pennypost": PROJECT / "client_sdk" / "pennypost",
    "pennypost_mint": PROJECT / "mint" / "pennypost_mint",
}


def test_functions_and_files_of_the_behaviour_page_exist() -> None:
    text = (PROJECT / "docs" / "reference" / "behaviour.md").read_text()
    named = set(re.findall(r"`([a-z_]+(?:/[a-z_]+)*(?:\.[A-Za-z_]\w*)+)`", text))
    # `commit._Batch._refusal`, `.spend`: the second is of the same class.
    for name in re.findall(r"`[\w.]+`(?:, `\.\w+`)+", text):
        first, *others = re.findall(r"`([\w.]+)`", name)
        named |= {first.rpartition(".")[0] + other for other in others}
    assert len(named) > 50 and "commit._Batch.spend" in named
    assert [name for name in sorted(named) if not _is_there(name)] == []
    assert not _is_there("commit.no_such_function") and not _is_there("protocol.nothing") and not _is_there("no.py")


def _unheld(page: str) -> list[str]:
    """The rows of its tables that name no test, and the names in it that no test has; `test_x_…` is a beginning."""
    tests = {
        name
        for path in (PROJECT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    problems: list[str] = []
    for row in re.findall(r"^\|.*\|$(?!\n\|---)", page, re.MULTILINE):
        named = re.findall(r"`(test_\w+)(…?)`", row)
        if not row.startswith("|---") and not named and "no test holds" not in row:
            problems.append(row)
        problems += [name for name, open_end in named if not (_begins(tests, name) if open_end else name in tests)]
    return problems


def _begins(names: set[str], beginning: str) -> bool:
    return any(name.startswith(beginning) for name in names)


def test_each_line_of_the_threats_names_a_test_or_says_that_there_is_none() -> None:
    assert _unheld((PROJECT / "docs" / "explanation" / "threats.md").read_text()) == []
    rows = [
        "| who | can |",
        "|---|---|",
        "| a | b (`test_no_such`) |",
        "| c | d |",
        "| e | f (no test holds this line) |",
    ]
    assert _unheld("\n".join(rows)) == ["test_no_such", "| c | d |"]


def test_makefile_has_every_promised_target() -> None:
    for target in ("install", "up", "test", "demo", "lint", "bench", "crash", "bed", "cashu", "clean", "docs", "lock"):
        subprocess.run(["make", "-n", target], cwd=PROJECT, check=True, capture_output=True)


def test_the_ten_lines_of_the_readme_run(tmp_path: Path) -> None:
    """The first Python block of the README, in a new process and an empty folder."""
    (block, *_) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "hello Bob" in done.stdout
