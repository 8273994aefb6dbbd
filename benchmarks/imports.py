"""Cost of `import converra`, and of switching it on in an app that uses openai anyway.

Each program runs in processes of its own, interleaved; CPU time, modules and memory are what it adds to the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from statistics import median
from typing import NamedTuple

RUNS = 9

MEASURED = """
import json, resource, sys, time
{before}
modules, memory = len(sys.modules), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time_ns()
{measured}
took = time.process_time_ns() - began
print(json.dumps([took / 1e6, len(sys.modules) - modules,
                  (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024]))
"""

PROGRAMS = {
    "import converra": ("", "import converra"),
    "import converra and instrument(), beyond openai": (
        "import openai; openai.OpenAI",
        "import converra; converra.instrument()",
    ),
}


class Footprint(NamedTuple):
    """Additional cost of a statement to a process: milliseconds of CPU, modules, and MiB of peak memory."""

    cpu_ms: float
    modules: int
    memory_mib: float


def measure(runs: int = RUNS) -> dict[str, Footprint]:
    """Return the median footprint of each program, by name."""
    seen: dict[str, list[list[float]]] = {name: [] for name in PROGRAMS}
    for _ in range(runs):
        for name, (before, measured) in PROGRAMS.items():
            seen[name].append(_run(MEASURED.format(before=before, measured=measured)))
    return {name: Footprint(*map(median, zip(*values, strict=True))) for name, values in seen.items()}


def _run(program: str) -> list[float]:
    settings = {"CONVERRA_API_KEY": "benchmark", "CONVERRA_BASE_URL": "http://127.0.0.1:9/api/v1"}  # a closed port
    output = subprocess.check_output([sys.executable, "-c", program], env=os.environ | settings, text=True)
    numbers: list[float] = json.loads(output)
    return numbers
