"""OpenLLMetry's instrumentation of OpenAI's client."""

from __future__ import annotations

from openai import OpenAI
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
OpenAIInstrumentor().instrument()

client = OpenAI()
ASKED = 'Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]'
GET_ORDER = {
    "type": "function",
    "function": {
        "name": "get_order",
        "description": "Look up an order by its number",
        "parameters": {"type": "object", "properties": {"id": {"type": "number"}}},
    },
}
messages = [{"role": "system", "content": "You answer questions about orders."}, {"role": "user", "content": ASKED}]
called = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[GET_ORDER])
call = called.choices[0].message.tool_calls[0]
messages.append(called.choices[0].message.model_dump(exclude_none=True))
messages.append({"role": "tool", "tool_call_id": call.id, "content": '{"status": "shipped"}'})
answered = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[GET_ORDER])
messages.append({"role": "assistant", "content": answered.choices[0].message.content})
messages.append({"role": "user", "content": "Thanks! [[say You are welcome.]]"})
print(client.chat.completions.create(model="gpt-4o", messages=messages).choices[0].message.content)
provider.shutdown()
