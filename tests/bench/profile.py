"""Where a server's time goes: py-spy looks at all its processes while the load runs.

Samples of a process are scaled to the CPU time it used, so that every line is CPU µs for one event (or swap): `own`
without what a function calls in Python, `all` with it.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests.bench.cpu import Meter
from tests.bench.servers import PROJECT

RATE = 250
ATTACH_SECONDS = 2
"""Until the profiler knows all processes."""
TOP = 28
_PROCESS = re.compile(r'process (\d+):"(.*?)"(?:;|$)')
_FRAME = re.compile(r"(.+) \((.+?)(?::\d+)?\)")


def py_spy() -> Path | None:
    """The profiler (`make bench` installs it), or None."""
    found = PROJECT / ".cache" / "bench" / "venv" / "bin" / "py-spy"
    return found if found.exists() else None


class Profiler:
    """Looks at a server while the body of `with` runs; `text` is the table of costs for one of `items`."""

    def __init__(self, program: Path, meter: Meter, home: Path, items: int, *, native: bool = False) -> None:
        self._meter, self._items = meter, items
        self._raw = home / "profile.txt"
        self._command = [program, "record", "--pid", str(meter.roots[0]), "--subprocesses", "--rate", str(RATE)]
        # a process that is stopped for each look seems busy in threads that only wait
        self._command += ["--nonblocking", "--format", "raw", "--output", self._raw, "--duration", "600"]
        self._command += ["--native"] if native else []
        self.text = ""

    def __enter__(self) -> Profiler:
        self._profiler = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(ATTACH_SECONDS)
        self._before = self._meter.by_process()
        return self

    def __exit__(self, *error: object) -> None:
        after = self._meter.by_process()
        self._profiler.send_signal(signal.SIGINT)
        self._profiler.wait(60)
        used = {pid: seconds - self._before.get(pid, 0.0) for pid, seconds in after.items()}
        self.text = table(self._raw.read_text(), used, self._meter.roots[0], self._items)


def table(raw: str, used: dict[int, float], main: int, items: int) -> str:
    """The largest costs from collapsed stacks, by process."""
    own: dict[int, Counter[str]] = defaultdict(Counter)
    everything: dict[int, Counter[str]] = defaultdict(Counter)
    names: dict[int, str] = {}
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if not count.isdigit():
            # what else the profiler says, of processes without Python too
            continue
        pid = main
        while found := _PROCESS.match(stack):  # children come below their parents
            pid, stack = int(found[1]), stack[found.end() :]
            names[pid] = found[2]
        places = [_place(frame) for frame in stack.split(";") if frame]
        if not places:
            continue
        own[pid][places[-1]] += int(count)
        everything[pid].update(dict.fromkeys(places, int(count)))
    lines: list[str] = []
    for pid in sorted(used, key=lambda each: -used[each]):
        cost = 1e6 * used[pid] / items
        if cost < 1:
            continue
        lines.append(f"process {pid} {names.get(pid, '')[:70]}: {cost:.1f} µs")
        samples = own[pid].total() or 1
        for title, counted in (("own", own[pid]), ("all", everything[pid])):
            lines += [
                f"  {title} {cost * count / samples:7.1f} µs  {place}" for place, count in counted.most_common(TOP)
            ]
    return "\n".join(lines)


def _place(frame: str) -> str:
    """`file:function` of a frame `function (path/file.py:line)`."""
    found = _FRAME.fullmatch(frame)
    return f"{'/'.join(found[2].split('/')[-2:])}:{found[1]}" if found else frame
