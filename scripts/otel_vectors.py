"""Write the spans of real emitters down as test vectors: `python -m scripts.otel_vectors [EMITTER ...]`.

Each emitter runs the programs of tests/otel/programs.py in the environment of the row `otel` of scripts/compat.py. A
file in tests/otel/vectors holds its spans, as far as they say something about a call, and beside them the conversations
that our own capture recorded of the same programs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from scripts.compat import ROWS, prepared
from scripts.environments import ROOT
from tests.otel.comparing import comparable
from tests.otel.emitters import EMITTERS

if TYPE_CHECKING:
    from scripts.environments import Environment

VECTORS = ROOT / "tests" / "otel" / "vectors"

LEFT_OUT = (
    *("code.", "server.", "logfire.json_schema", "logfire.msg", "logfire.tags", "logfire.level_num", "request_data"),
    *(
        "model_request_parameters",
        "pydantic_ai.",
        "gen_ai.openai.",
        "openai.",
        "exception.stacktrace",
        "exception.message",
    ),
    *("exception.escaped", "input.", "gen_ai.usage.details.", "gen_ai.aggregated_usage.details."),
)
"""Beginnings of attributes that no reader looks at, or that repeat others: where the code is, schemas, ports."""

KEPT_OF_RESOURCE = ("telemetry.sdk.language", "converra.prompt.id")


def slim(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span without what says nothing about its call."""
    return {
        **span,
        "attributes": _kept(span["attributes"]),
        "events": [{**event, "attributes": _kept(event["attributes"])} for event in span["events"]],
        "resource": {name: value for name, value in span["resource"].items() if name in KEPT_OF_RESOURCE},
    }


def _kept(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if not name.startswith(LEFT_OUT)}


def vectors(environment: Environment, emitter: str) -> dict[str, Any]:
    """Run the programs of an emitter, and return what its file holds."""
    command = [str(environment.python), "-W", "ignore", "-m", "tests.otel.emitters", emitter, "alone"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    programs = {
        name: {"spans": [slim(span) for span in outcome["spans"]], "captured": comparable(outcome["captured"])}
        for name, outcome in found["programs"].items()
    }
    return {**found, "programs": programs}


def main(names: list[str]) -> None:
    """Write the vectors of the named emitters, or of all."""
    environment = prepared("otel", ROWS["otel"])
    for name in names or list(EMITTERS):
        path = VECTORS / f"{name}.json"
        path.write_text(json.dumps(vectors(environment, name), indent=1, ensure_ascii=False) + "\n")
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(sys.argv[1:])
