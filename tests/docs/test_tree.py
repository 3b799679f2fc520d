"""The tree itself: nothing of one machine in it, locks with hashes, compose and workflow that parse."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

PROJECT = Path(__file__).parents[2]
LOCKS = ("sdk", "server", "dev", "cashu", "lnbits", "bench")


def _tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [PROJECT / name for name in done.stdout.split("\0") if name and (PROJECT / name).is_file()]


def test_no_registry_address_and_no_machine_path() -> None:
    # with classes of one letter, so that this line is not its own finding
    marks = re.compile(
        r"py[p]i\.org|pythonhost[e]d|npm[j]s\.(org|com)|crates[.]i[o]|proxy[.]golan[g]|/wor[k]/|/roo[t]/"
    )
    for path in _tracked():
        assert not marks.search(path.read_bytes().decode(errors="replace")), path


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_version_has_hashes(name: str) -> None:
    text = (PROJECT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[a-zA-Z])", text.strip())
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._\[\]-]+==\S+ ", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]
    assert "://" not in text


def test_locks_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (PROJECT / "requirements" / f"{name}.txt").read_text()
        return dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE))

    assert pins("sdk").items() <= pins("server").items() <= pins("dev").items()


def test_locks_name_every_dependency() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["server"]]
    locked = (PROJECT / "requirements" / "server.txt").read_text().lower()
    for requirement in wanted:
        name = re.split(r"[\[<>=;!~ ]", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}==", locked, re.MULTILINE), f"{name}: run `make lock`"


@pytest.mark.parametrize("folder", ["tests/interop/node", "postoffice/pages"])
def test_node_lock_has_hashes_and_no_addresses(folder: str) -> None:
    text = (PROJECT / folder / "package-lock.json").read_text()
    packages: dict[str, dict[str, Any]] = json.loads(text)["packages"]
    assert "resolved" not in text
    assert all("integrity" in entry for name, entry in packages.items() if name)


def test_compose_file() -> None:
    compose: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())
    services = compose["services"]
    assert {"pennypost", "postgres"} <= set(services)
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        for other in service.get("depends_on", {}):
            assert other in services, f"{name} depends on {other}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith(".") or source in compose["volumes"], f"{name}: {volume}"
        for secret in service.get("secrets", []):
            assert secret in compose["secrets"]
        # a tag that moves makes two starts two different things
        assert not service.get("image", "x:1").endswith(":latest")


def test_dockerfile() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    instructions = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    words = [line.split()[0] for line in instructions.splitlines() if line.strip()]
    known = "FROM RUN COPY WORKDIR USER ENV EXPOSE VOLUME HEALTHCHECK STOPSIGNAL ENTRYPOINT CMD"
    assert set(words) <= set(known.split())
    assert "--require-hashes" in instructions
    assert words.index("USER") < words.index("ENTRYPOINT")
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", instructions, re.MULTILINE):
        for source in sources.split():
            assert (PROJECT / source).exists(), source


def test_workflow_calls_the_ci_script() -> None:
    workflow: dict[Any, Any] = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert any("bash .ci/run" in step.get("run", "") for step in steps)


@pytest.mark.parametrize("script", [".ci/run", "tests/lightning_bed/lnd/build.sh"])
def test_shell_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", PROJECT / script], check=True)
