"""`make bench`: imports, `converra dev`, spans, each shape of call, a chat that grows; the server apart."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks import imports

if TYPE_CHECKING:
    from collections.abc import Iterator

SINK = "from converra.server.run import serve\nwith serve() as server:\n print(server.base_url, flush=True)\n input()"


@contextmanager
def sink() -> Iterator[str]:
    """Run the local server in another process, so that its CPU time is not counted."""
    with subprocess.Popen(
        [sys.executable, "-c", SINK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None  # noqa: S101 - a pipe was asked for
        assert server.stdout is not None  # noqa: S101 - a pipe was asked for
        yield server.stdout.readline().strip()
        server.communicate("\n")


def _print_imports() -> None:
    print(f"{'import':<52}{'CPU ms':>10}{'modules':>10}{'MiB':>8}")
    for name, footprint in imports.measure().items():
        print(f"{name:<52}{footprint.cpu_ms:>10.1f}{footprint.modules:>10.0f}{footprint.memory_mib:>8.1f}")


def _print_dev() -> None:
    from benchmarks import dev

    start = dev.measure()
    print(f"\n{'converra dev':<36}{'ready ms':>10}{'page ms':>10}{'MiB':>10}")
    print(f"{'':<36}{start.ready_ms:>10.0f}{start.page_ms:>10.0f}{start.resident_mib:>10.1f}")


def _print_capture() -> None:
    from benchmarks import (
        capture,
        capture_anthropic,
        capture_bedrock,
        capture_claude_agent,
        capture_google_genai,
        capture_langchain,
        capture_litellm,
        capture_openai,
        capture_others,
    )

    print(f"\n{'µs of CPU per call':<36}{'plain':>10}{'noise':>10}{'captured':>10}{'with delivery':>16}")
    clients = (
        *(capture_openai, capture_anthropic, capture_google_genai, capture_bedrock, capture_others),
        *(capture_litellm, capture_claude_agent, capture_langchain),
    )
    for name, cost in capture.overheads([shape for client in clients for shape in client.SHAPES]):
        print(
            f"{name:<36}{cost.plain.caller:>10.1f}{cost.noise.caller:>+10.1f}"
            f"{cost.capture.caller:>+10.1f}{cost.capture.process:>+16.1f}"
        )


def _print_growing() -> None:
    from benchmarks import growing

    print(f"\n{'µs of CPU per call, by resent messages':<40}{'plain':>10}{'in a block':>14}{'by history':>14}")
    for row in growing.measure():
        print(f"{row.resent:<40}{row.plain:>10.1f}{row.in_block:>+14.1f}{row.by_history:>+14.1f}")


def _print_spans() -> None:
    from benchmarks import spans

    plain, watched = spans.measure()
    print(f"\n{'µs of CPU per OpenTelemetry span':<36}{'plain':>10}{'with otel':>14}")
    print(f"{'start':<36}{plain.start:>10.1f}{watched.start - plain.start:>+14.1f}")
    print(f"{'end':<36}{plain.end:>10.1f}{watched.end - plain.end:>+14.1f}")


def _print_otlp() -> None:
    from benchmarks import otlp

    rate = otlp.measure()
    names = ("taken", "stored", "of CPU", "refused")
    print(f"\n{'spans a second into converra dev':<36}{''.join(f'{name:>10}' for name in names)}")
    figures = (rate.spans / rate.taken_s, rate.per_second, rate.per_cpu_second, rate.refused)
    print(f"{f'{rate.spans:,} spans, {rate.turns:,} turns':<36}{''.join(f'{figure:>10,.0f}' for figure in figures)}")


def main() -> None:
    """Print the tables."""
    _print_imports()
    _print_dev()
    _print_otlp()
    with sink() as base_url:
        os.environ |= {"CONVERRA_BASE_URL": base_url, "CONVERRA_API_KEY": "benchmark"}
        _print_capture()
        _print_growing()
        _print_spans()


if __name__ == "__main__":
    main()
