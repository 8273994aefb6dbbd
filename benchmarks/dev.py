"""Start time and size of `converra dev`: the promise is one second and 60 MB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import NamedTuple

RUNS = 5
COMMAND = (sys.executable, "-m", "converra", "dev", "--port", "0", "--db", ":memory:", "--json")


class Start(NamedTuple):
    """Milliseconds until the command prints its address, and until the viewer's first page is loaded; MiB of memory."""

    ready_ms: float
    page_ms: float
    resident_mib: float


def measure(runs: int = RUNS) -> Start:
    """Return the median start."""
    return Start(*map(median, zip(*(_start() for _ in range(runs)), strict=True)))


def _start() -> Start:
    began = time.perf_counter()
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        viewer = json.loads(process.stdout.readline())["viewer"]
        ready = time.perf_counter() - began
        urllib.request.urlopen(viewer).read()  # noqa: S310 - our own server
        page = time.perf_counter() - began
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.terminate()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return Start(ready * 1000, page * 1000, resident / 1024)
