"""OpenTelemetry sees what delivery counts."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from converra.server.run import LocalServer

PROGRAM = """
import json, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
from converra.config import Config
from converra.wire.models import Message
from converra.delivery.delivery import Delivery
from converra.delivery.header import Header

class Note:
    size, already_known = 400, False
    def message(self): return Message(role="user", content="hello", metadata={"messageId": "m"})

sender = Delivery(Config(api_key="k", base_url=sys.argv[1], max_pending_bytes=1000, flush_interval=3600.0))
queue = sender.open(Header(key="k", prompt_id="p"))
for _ in range(3): queue.append([Note()])
queue.end()
sender.shutdown(120)
seen = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(json.dumps({m.name: m.data.data_points[0].value for s in seen for m in s.metrics}))
"""


def test_the_numbers_of_stats_are_counters(server: LocalServer) -> None:
    """Whoever has set a meter provider gets captured, delivered, dropped and requests, without asking."""
    out = subprocess.check_output([sys.executable, "-c", textwrap.dedent(PROGRAM), server.base_url], text=True)
    import json

    counts = json.loads(out)
    assert counts.pop("converra.bytes") > 100
    assert counts == {
        "converra.captured": 3,
        "converra.dropped": 1,
        "converra.delivered": 2,
        "converra.requests": 1,
    }
