"""Google's Agent Development Kit, with spans and log records; the environment chooses the form of its telemetry."""

from __future__ import annotations

import asyncio

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

spans, logs = TracerProvider(), LoggerProvider()
spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter()))
trace.set_tracer_provider(spans)
set_logger_provider(logs)

from google.adk.agents import Agent  # noqa: E402 - it makes its tracer when it is imported
from google.adk.runners import InMemoryRunner  # noqa: E402 - as above
from google.genai.types import Content, Part  # noqa: E402 - as above


def get_order(id: int) -> dict[str, object]:  # noqa: A002 - the name of the tool's argument
    """Look up an order by its number."""
    return {"id": id, "status": "shipped"}


async def chat() -> None:
    """Ask twice in one session."""
    instruction = "You answer questions about orders."
    agent = Agent(name="support", model="gemini-2.5-flash", instruction=instruction, tools=[get_order])
    runner = InMemoryRunner(agent=agent, app_name="shop")
    await runner.session_service.create_session(app_name="shop", user_id="u-1", session_id="chat-7")
    for words in (
        'Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]',
        "Thanks! [[say You are welcome.]]",
    ):
        asked = Content(role="user", parts=[Part(text=words)])
        async for event in runner.run_async(user_id="u-1", session_id="chat-7", new_message=asked):
            print(event.author, event.content and event.content.parts)


asyncio.run(chat())
spans.shutdown()
logs.shutdown()
