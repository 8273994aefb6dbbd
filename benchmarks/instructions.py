"""Bytecode instructions that capture runs on the calling thread, per call: a number that no load changes.

Times vary with the machine, this number only with the code and the version of Python. It leaves out the work of
functions in C, so that it shows where a call got dearer, and a benchmark of times shows by how much.

`python -m benchmarks.instructions [SHAPE]` prints the counts, and of one shape the functions they fall on. `--check`
exits with 1 where a count is over its bound; the bounds hold for Python 3.11.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from benchmarks.interleaved import Shape

BOUNDS = {
    "short call": 1_220,
    "60 messages, 20 tools": 4_650,
    "stream of 300 chunks": 34_000,
    "Responses": 3_400,
    "agent step with a tool": 2_420,
    "LangChain call": 4_450,
}
"""Most instructions of one call, by shape: about five per cent above what was counted when they were set."""

MEASURED_ON = (3, 11)
RUNS = 3


def _shapes() -> dict[str, Shape]:
    import benchmarks.capture_langchain
    import benchmarks.capture_openai

    shapes = (*benchmarks.capture_openai.SHAPES, *benchmarks.capture_langchain.SHAPES)
    return {shape.name: shape for shape in shapes if shape.name in BOUNDS}


def count(shape: Shape, package: str) -> Counter[str]:
    """Return the instructions of one run of a shape on this thread, by function of the package."""
    import converra

    counts: Counter[str] = Counter()

    def enter(frame: FrameType, _event: str, _arg: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(package):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        name = f"{code.co_filename.removeprefix(package).lstrip('/')}:{code.co_qualname}"

        def step(_frame: FrameType, event: str, _arg: Any) -> Any:
            if event == "opcode":
                counts[name] += 1
            return step

        return step

    sys.settrace(enter)
    try:
        shape.talk(lambda: converra.conversation("prompt_benchmark"))
    finally:
        sys.settrace(None)
    return counts


def measure() -> dict[str, Counter[str]]:
    """Return the instructions of a run of each shape, by function; the shortest run of three.

    A caller does some of the workers' jobs if they fall behind, which a machine under load may cause.
    """
    from benchmarks.__main__ import sink

    with sink() as base_url:
        os.environ |= {"CONVERRA_BASE_URL": base_url, "CONVERRA_API_KEY": "benchmark"}
        shapes = _shapes()
        import converra

        converra.instrument()
        package = str(Path(converra.__file__).parent)
        runs: dict[str, list[Counter[str]]] = {name: [] for name in shapes}
        for _ in range(RUNS + 1):  # the first one makes what is made once
            for name, shape in shapes.items():
                runs[name].append(count(shape, package))
            converra.flush()
        converra.shutdown()
        return {name: min(counted[1:], key=Counter.total) for name, counted in runs.items()}


def main() -> int:
    """Print the counts; return 1 if `--check` is given and one of them is over its bound."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shape", nargs="?", choices=BOUNDS, help="print the functions of this shape as well")
    parser.add_argument("--check", action="store_true", help="fail where a count is over its bound")
    arguments = parser.parse_args()
    calls = {name: shape.calls for name, shape in _shapes().items()}
    over = False
    print(f"{'instructions on the calling thread':<36}{'per call':>10}{'bound':>10}")
    for name, counts in measure().items():
        each = counts.total() / calls[name]
        over = over or each > BOUNDS[name]
        print(f"{name:<36}{each:>10,.0f}{BOUNDS[name]:>10,}")
        if name == arguments.shape:
            for function, number in counts.most_common(40):
                print(f"{number / calls[name]:>46,.1f}  {function}")
    return int(over and arguments.check and sys.version_info[:2] == MEASURED_ON)


if __name__ == "__main__":
    sys.exit(main())
