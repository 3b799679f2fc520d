"""The pages' files over HTTP: kept for ever under a name with a hash, compressed, and answered to HEAD."""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pennypost_postoffice.pages.assets import asset_url, assets
from tests.pages.test_build import BUILT, PAGES, files
from tests.support.installed import PROJECT
from tests.support.server import Server, clean_environment


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("assets")
    with Server(folder) as server, httpx.Client(base_url=server.url, trust_env=False, timeout=10) as client:
        yield client


def test_every_file_is_served_as_it_was_built(http: httpx.Client) -> None:
    for name, asset in assets().items():
        assert re.fullmatch(r"[a-z]+-[A-Z0-9]{8}\.(css|js|svg|txt)", name)
        plain = http.get(f"/assets/{name}", headers={"accept-encoding": "identity"})
        assert (plain.status_code, plain.content) == (200, asset.body)
        assert "content-encoding" not in plain.headers
        packed = http.get(f"/assets/{name}", headers={"accept-encoding": "gzip, br"})
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", asset.body)
        assert gzip.decompress(asset.packed) == asset.body


def test_headers_and_conditions(http: httpx.Client) -> None:
    path = asset_url("base.css")
    found = http.get(path)
    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert found.headers["content-type"] == "text/css; charset=utf-8"
    assert found.headers["x-content-type-options"] == "nosniff"
    assert "accept-encoding" in found.headers["vary"]
    again = http.get(path, headers={"if-none-match": f'"other", {found.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    head = http.head(path)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", found.headers["etag"])


@pytest.mark.parametrize(
    "name", ["manifest.json", "base.css", "..%2f__init__.py", "%2e%2e/__init__.py", "", "a/b", "base-00000000.css"]
)
def test_nothing_else_is_served(http: httpx.Client, name: str) -> None:
    assert http.get(f"/assets/{name}").status_code == 404


# the first test that asks for it builds the wheel and installs it
@pytest.mark.timeout(400)
@pytest.mark.parametrize("folder", ["built", "html"])
def test_what_pages_are_made_of_is_installed(installed: Path, folder: str) -> None:
    """The wheel has every built file and every piece of HTML, so that an operator needs no Node."""
    (package,) = installed.parent.glob("lib/*/site-packages/pennypost_postoffice/pages")
    found = files(BUILT.parent / folder)
    assert found == files(package / folder)
    assert folder != "built" or set(assets()) | {"manifest.json"} == set(found)


def test_the_source_distribution_builds_the_same_pages(tmp_path: Path) -> None:
    """It has what is built, so that a wheel of it has too, and what that is built from, with the lock."""
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, PROJECT]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = tmp_path.glob("pennypost-*.tar.gz")
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as packed:
        for member in packed:
            if member.isfile() and (data := packed.extractfile(member)) is not None:
                found[member.name.partition("/")[2]] = data.read()
    for folder in (BUILT, BUILT.parent / "html", PAGES / "src", PAGES / "src" / "lib"):
        place = f"{folder.relative_to(PROJECT).as_posix()}/"
        there = {name.removeprefix(place): data for name, data in found.items() if name.startswith(place)}
        assert {name: data for name, data in there.items() if "/" not in name} == files(folder)
    for name in ("build.mjs", "package.json", "package-lock.json", "tsconfig.json"):
        path = PAGES / name
        assert found[path.relative_to(PROJECT).as_posix()] == path.read_bytes()
    assert not [name for name in found if "node_modules" in name]
