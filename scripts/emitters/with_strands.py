"""Strands Agents, with its default telemetry: messages are events of spans."""

from __future__ import annotations

from strands import Agent, tool
from strands.models.openai import OpenAIModel
from strands.telemetry import StrandsTelemetry

telemetry = StrandsTelemetry()
telemetry.setup_otlp_exporter()


@tool
def get_order(id: int) -> dict[str, object]:  # noqa: A002 - the name of the tool's argument
    """Look up an order by its number."""
    return {"id": id, "status": "shipped"}


agent = Agent(
    model=OpenAIModel(client_args={}, model_id="gpt-4o"),
    tools=[get_order],
    system_prompt="You answer questions about orders.",
    name="support",
    callback_handler=None,
    trace_attributes={"session.id": "chat-7", "user.id": "u-1"},
)
print(agent('Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]'))
print(agent("Thanks! [[say You are welcome.]]"))
telemetry.tracer_provider.shutdown()
