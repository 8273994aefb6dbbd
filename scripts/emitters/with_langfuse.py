"""Langfuse: OpenAI's client, wrapped; the spans go to the endpoint of the environment alone."""

from __future__ import annotations

import os

from langfuse import Langfuse, propagate_attributes
from langfuse.openai import OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
nowhere = f"{os.environ['OTEL_EXPORTER_OTLP_ENDPOINT']}/elsewhere"
langfuse = Langfuse(public_key="pk", secret_key="sk", host=nowhere, tracer_provider=provider)  # noqa: S106 - made up
client = OpenAI()

GET_ORDER = {
    "type": "function",
    "function": {
        "name": "get_order",
        "description": "Look up an order by its number",
        "parameters": {"type": "object", "properties": {"id": {"type": "number"}}},
    },
}
ASKED = 'Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]'
messages = [{"role": "system", "content": "You answer questions about orders."}, {"role": "user", "content": ASKED}]

with langfuse.start_as_current_observation(name="chat", as_type="span"):  # noqa: SIM117 - the second needs the first
    with propagate_attributes(session_id="chat-7", user_id="u-1"):
        called = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[GET_ORDER])
        call = called.choices[0].message.tool_calls[0]
        messages.append(called.choices[0].message.model_dump(exclude_none=True))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"status": "shipped"}'})
        answered = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[GET_ORDER])
        messages.append({"role": "assistant", "content": answered.choices[0].message.content})
        messages.append({"role": "user", "content": "Thanks! [[say You are welcome.]]"})
        options = {"stream": True, "stream_options": {"include_usage": True}}
        for _ in client.chat.completions.create(model="gpt-4o", messages=messages, **options):
            pass
        try:
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "Fail [[error:400 x]]"}]
            )
        except Exception as error:  # noqa: BLE001 - of a class of openai's
            print(error)
with propagate_attributes(session_id="chat-8"):
    client.responses.create(model="gpt-4o", instructions="Be brief.", input="Hello [[say Hi.]]")
provider.shutdown()
