"""Programs of apps, in each of which an emitter of spans and our own capture see the same calls."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.server.run import LocalServer

    Program = Callable[[LocalServer], Any]

PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
SYSTEM = {"role": "system", "content": "Be brief."}


def _openai(server: LocalServer) -> Any:
    import openai

    return openai.OpenAI(api_key="k", base_url=server.openai_url, max_retries=0)


def _asked(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def chat(server: LocalServer) -> None:
    """Two turns, the second with the history of the first; and another chat that opens with the same words."""
    with _openai(server) as client:
        messages: list[Any] = [SYSTEM, _asked("[[say:Hello there!]]")]
        answer = client.chat.completions.create(model="gpt-4o", messages=messages, temperature=0.2)
        messages += [{"role": "assistant", "content": answer.choices[0].message.content}, _asked("[[say:Bye.]]")]
        client.chat.completions.create(model="gpt-4o", messages=messages)
        client.chat.completions.create(model="gpt-4o", messages=messages[:2])


def tools(server: LocalServer) -> None:
    """Two parallel calls, their results, and an answer."""
    calls = '[[tool:get_weather {"city": "Paris"}]][[tool:get_weather {"city": "Oslo"}]]'
    with _openai(server) as client:
        messages: list[Any] = [_asked(f"{calls}[[then]][[say:Rain in both.]]")]
        made = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER]).choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": '{"sky": "rain"}'} for call in made.tool_calls]
        messages += [made.model_dump(exclude_none=True), *results]
        client.chat.completions.create(model="gpt-4o", messages=messages, tools=[WEATHER])


def stream(server: LocalServer) -> None:
    """A streamed answer with its usage."""
    with _openai(server) as client:
        found = client.chat.completions.create(
            model="gpt-4o",
            messages=[SYSTEM, _asked("[[say:One two three.]]")],
            stream=True,
            stream_options={"include_usage": True},
        )
        for _ in found:
            pass


def stream_tools(server: LocalServer) -> None:
    """A streamed tool call."""
    with _openai(server) as client:
        for _ in client.chat.completions.create(
            model="gpt-4o",
            messages=[_asked('[[tool:get_weather {"city": "Paris"}]]')],
            tools=[WEATHER],
            stream=True,
        ):
            pass


def responses(server: LocalServer) -> None:
    """The Responses API: instructions, an input as text, then the whole list with an answer in it."""
    with _openai(server) as client:
        first = client.responses.create(model="gpt-5-mini", input="[[say:Hello there!]]", instructions="Be brief.")
        items: list[Any] = [_asked("[[say:Hello there!]]"), {"role": "assistant", "content": first.output_text}]
        client.responses.create(model="gpt-5-mini", input=[*items, _asked("[[say:Bye.]]")], instructions="Be brief.")


def picture(server: LocalServer) -> None:
    """A question with an embedded picture and a linked one."""
    parts = [
        {"type": "text", "text": "[[say:A dot.]]"},
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
    ]
    with _openai(server) as client:
        client.chat.completions.create(model="gpt-4o", messages=[_asked(parts)])


def two_choices(server: LocalServer) -> None:
    """Two choices of one answer."""
    with _openai(server) as client:
        client.chat.completions.create(model="gpt-4o", messages=[_asked("[[say:Either.]]")], n=2)


def failure(server: LocalServer) -> None:
    """A call that fails, and the same once more, which succeeds."""
    import openai

    with _openai(server) as client:
        messages: list[Any] = [_asked("[[error:429 x1]][[say:Fine.]]")]
        try:
            client.chat.completions.create(model="gpt-4o", messages=messages)
        except openai.RateLimitError:
            client.chat.completions.create(model="gpt-4o", messages=messages)


def length(server: LocalServer) -> None:
    """An answer that is cut off by the limit of tokens, and one with reasoning tokens."""
    with _openai(server) as client:
        client.chat.completions.create(model="gpt-4o", messages=[_asked("[[say:Too long]][[length]]")])
        usage = '{"prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 3}}'
        client.chat.completions.create(model="o4", messages=[_asked(f"[[say:Thought.]][[usage:{usage}]]")])


def claude(server: LocalServer) -> None:
    """Anthropic's messages: two turns, a tool, a stream, a failure."""
    import anthropic

    tool = {"name": "get_weather", "description": "Weather", "input_schema": {"type": "object", "properties": {}}}
    more: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 99, "system": "Be brief.", "tools": [tool]}
    with anthropic.Anthropic(api_key="k", base_url=server.anthropic_url, max_retries=0) as client:
        messages: list[Any] = [_asked('[[tool:get_weather {"city": "Paris"}]][[then]][[say:Rain.]]')]
        made = client.messages.create(messages=messages, **more)
        call = next(block for block in made.content if block.type == "tool_use")
        messages += [
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in made.content]},
            _asked([{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]),
        ]
        answer = client.messages.create(messages=messages, **more)
        messages += [{"role": "assistant", "content": answer.content[0].text}, _asked("[[say:Bye.]]")]
        with client.messages.stream(messages=messages, **more) as helper:
            helper.until_done()
        with contextlib.suppress(anthropic.APIStatusError):
            messages = [_asked("[[error:529]]")]
            client.messages.create(messages=messages, **more)


def agent(server: LocalServer) -> None:
    """An agent of pydantic-ai with a tool, and a second run that continues the first."""
    import openai
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(openai_client=openai.AsyncOpenAI(api_key="k", base_url=server.openai_url, max_retries=0))
    assistant: Any = Agent(OpenAIChatModel("gpt-4o", provider=provider), name="forecaster", system_prompt="Be brief.")

    def get_weather(city: str) -> str:
        return f"rain in {city}"

    assistant.tool_plain(get_weather)
    first = assistant.run_sync('[[tool:get_weather {"city": "Paris"}]][[then]][[say:Rain in Paris.]]')
    assistant.run_sync("[[say:Bye.]]", message_history=first.all_messages())


OF_OPENAI: tuple[Program, ...] = (
    *(chat, tools, stream, stream_tools, responses, picture, two_choices, failure, length),
)
