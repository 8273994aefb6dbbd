"""The recorded bodies of emitters: see `scripts/otlp_vectors.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from converra.otlp import json_form

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.spans.span import Span

VECTORS = Path(__file__).parent / "vectors" / "otlp"
NAMES = sorted(path.stem for path in VECTORS.glob("*.json"))


class Body(NamedTuple):
    """A recorded request: its path and its body in OTLP's JSON."""

    path: str
    content: bytes


def bodies(name: str) -> list[Body]:
    """Return the requests of an emitter, in the order in which it sent them."""
    recorded = json.loads((VECTORS / f"{name}.json").read_text())
    return [Body(each["path"], json.dumps(each["body"]).encode()) for each in recorded["bodies"]]


def spans(name: str) -> Iterator[Span]:
    """Yield the spans of an emitter, each with the log records that belong to it as events."""
    sent = bodies(name)
    logs = [log for body in sent if body.path == "/v1/logs" for log in json_form.logs(body.content).records]
    for body in sent:
        if body.path == "/v1/traces":
            for span in json_form.traces(body.content).spans:
                own = [log.event for log in logs if (log.trace_id, log.span_id) == (span.trace_id, span.span_id)]
                yield span.with_events(own)
