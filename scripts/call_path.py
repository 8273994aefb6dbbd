"""Count the files and functions that one plain model call passes, on the app's thread and on the workers'.

`python -m scripts.call_path` records one chat completion against a loopback model and the local API, profiles every
thread with `sys.setprofile`, and prints the totals, the calls between rooms, and each call that climbs from a lower
layer into a higher one. `--check` exits with 1 where a figure is over its bound, or a climb is not in `CLIMBS`.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai import OpenAI

import converra
from benchmarks.__main__ import sink

if TYPE_CHECKING:
    from types import CodeType, FrameType

PACKAGE = str(Path(converra.__file__).parent)
MAX_FILES, MAX_FUNCTIONS = 41, 230
"""Bounds of one plain call, both sides together."""

ATTEMPTS = 3

LAYERS = ("_default", "capture", "integrations", "delivery", "api", "process", "config", "history", "wire", "errors")
"""From the top, as in the import contract of `pyproject.toml`."""

CLIMBS = {
    ("integrations", "capture"): "`Capture`, `CapturedCall`",
    ("history", "integrations"): "`Dialect`, `Answer.read`",
    ("history", "capture"): "`Draft.finish`",
    ("process", "capture"): "`Job`",
}
"""Calls from a lower room into a higher one, and what they go through; the architecture page explains each."""


class CallPath:
    """Code objects of the package that ran, and the calls between them."""

    def __init__(self) -> None:
        self.functions: set[CodeType] = set()
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self.climbs: dict[tuple[str, str], int] = defaultdict(int)

    def profile(self, frame: FrameType, event: str, _arg: Any) -> None:
        """Note one event of `sys.setprofile`."""
        if event != "call" or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        self.functions.add(frame.f_code)
        caller = _own_caller(frame)
        if caller is None:
            return
        above, below = _room(caller.f_code), _room(frame.f_code)
        if above != below:
            self.calls[above, below] += 1
            if _rank(below) < _rank(above):
                self.climbs[_named(caller.f_code), _named(frame.f_code)] += 1

    @property
    def comprehensions(self) -> set[CodeType]:
        """Comprehensions, generator expressions and lambdas; Python 3.12 has no frames for most of them."""
        return {code for code in self.functions if code.co_name.startswith("<")}

    @property
    def unnamed(self) -> set[tuple[str, str]]:
        """Climbs between rooms that are not in `CLIMBS`."""
        return {(above, below) for above, below in self.calls if _rank(below) < _rank(above)} - CLIMBS.keys()

    @property
    def files(self) -> set[str]:
        """Files whose functions ran."""
        return {code.co_filename for code in self.functions}


def _own_caller(frame: FrameType) -> FrameType | None:
    """Return the nearest calling frame of the package; None below a thread's start or the app's own code."""
    caller = frame.f_back
    while caller is not None and not caller.f_code.co_filename.startswith(PACKAGE):
        caller = caller.f_back
    return caller


def _relative(code: CodeType) -> Path:
    return Path(code.co_filename).relative_to(PACKAGE)


def _room(code: CodeType) -> str:
    return _relative(code).parts[0].removesuffix(".py")


def _rank(room: str) -> int:
    return LAYERS.index(room) if room in LAYERS else -1


def _named(code: CodeType) -> str:
    return f"{_relative(code)}:{code.co_qualname}"


def measure() -> CallPath:
    """Record calls while every thread is profiled, after another one has warmed everything up.

    Returns:
        The shortest of three paths: on a busy machine, a call may find no resting worker and start another thread.

    """
    paths: list[CallPath] = []
    profiling = threading.Event()

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        if profiling.is_set():
            paths[-1].profile(frame, event, arg)

    threading.setprofile(profile)
    with sink() as base_url:
        converra.instrument(api_key="any", base_url=base_url)
        with OpenAI(api_key="any", base_url=base_url.replace("/api/v1", "/openai/v1")) as client:
            _call(client)
            converra.flush()
            sys.setprofile(profile)
            for _ in range(ATTEMPTS):
                paths.append(CallPath())
                profiling.set()
                _call(client)
                delivered = converra.flush()
                profiling.clear()
                if not delivered:
                    raise SystemExit("the call was not delivered; nothing was measured")
            sys.setprofile(None)
        threading.setprofile(None)
        converra.shutdown()
    return min(paths, key=lambda path: len(path.functions))


def _call(client: OpenAI) -> None:
    with converra.conversation("prompt_path"):
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello!"}])


def main() -> int:
    """Print the figures; return 1 if `--check` is given and one of them is over its bound."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--check", action="store_true", help="fail where a figure is over its bound")
    path = measure()
    print(f"files      {len(path.files):>4} (at most {MAX_FILES})")
    functions = len(path.functions - path.comprehensions)
    print(f"functions  {functions:>4} (at most {MAX_FUNCTIONS}); {len(path.comprehensions)} comprehensions")
    for (above, below), count in sorted(path.calls.items(), key=lambda item: -item[1]):
        print(f"{count:>6} × {above} → {below}")
    for (caller, callee), count in path.climbs.items():
        print(f"{count:>6} × climbs: {caller} → {callee}")
    over = len(path.files) > MAX_FILES or functions > MAX_FUNCTIONS or bool(path.unnamed)
    return int(over and arguments.parse_args().check)


if __name__ == "__main__":
    sys.exit(main())
