"""MLflow's autologging of OpenAI's client, exported by OTLP."""

from __future__ import annotations

import mlflow
from openai import OpenAI, OpenAIError

mlflow.openai.autolog()
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


@mlflow.trace
def chat() -> None:
    """Call a tool, answer, stream, and fail."""
    messages = [{"role": "system", "content": "You answer questions about orders."}, {"role": "user", "content": ASKED}]
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
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Fail [[error:400 x]]"}])
    except OpenAIError as error:
        print(error)


chat()
client.responses.create(model="gpt-4o", instructions="Be brief.", input="Hello [[say Hi.]]")
mlflow.flush_trace_async_logging()
