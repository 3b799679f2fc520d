"""Debian's Prometheus for the tests: scrapes a server, answers queries."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from tests.support.guard import Guard
from tests.support.ports import free_port
from tests.support.server import clean_environment

START_SECONDS = ANSWER_SECONDS = 30.0


def programs() -> tuple[str, str] | None:
    """`prometheus` and `promtool`; None where they are not installed."""
    found = shutil.which("prometheus"), shutil.which("promtool")
    return (found[0], found[1]) if found[0] and found[1] else None


class Prometheus:
    """A running Prometheus with a configuration file of the test's own. Use it in `with`."""

    def __init__(self, folder: Path, config: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder, self._config = folder, config
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: Guard | None = None

    def __enter__(self) -> Prometheus:
        found = programs()
        assert found is not None
        command = [
            found[0],
            f"--config.file={self._config}",
            f"--storage.tsdb.path={self._folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--log.level=error",
        ]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=clean_environment(), stdout=log, stderr=log, start_new_session=True
            )
        self._guard = Guard("kill", "-KILL", "--", f"-{self._process.pid}")
        self._until_ready()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process is not None and self._guard is not None
        self._process.kill()
        self._process.wait()
        self._guard.dismiss()

    def _until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise RuntimeError((self._folder / "prometheus.log").read_text()[-2_000:])

    def query(self, expression: str) -> list[Any]:
        """The result of an instant query. AssertionError with what Prometheus says of a bad one."""
        answer = self._get("query", {"query": expression})
        assert answer["status"] == "success", (expression, answer)
        result = answer["data"]["result"]
        return result if isinstance(result, list) else [result]

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules as it evaluates them."""
        answer = self._get("rules")
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    def metadata(self) -> dict[str, dict[str, str]]:
        """What its targets say of their metrics, by name: `type` and `help`."""
        answer = self._get("metadata")
        return {name: found[0] for name, found in answer["data"].items()}

    def _get(self, what: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        return httpx.get(f"{self.url}/api/v1/{what}", params=params, trust_env=False, timeout=ANSWER_SECONDS).json()
