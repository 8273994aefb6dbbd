"""Microsoft's agent-framework, with the content switched on."""

from __future__ import annotations

import asyncio

from agent_framework import Agent, tool
from agent_framework.observability import configure_otel_providers
from agent_framework.openai import OpenAIChatCompletionClient
from opentelemetry import trace

configure_otel_providers(enable_sensitive_data=True)


@tool
def get_order(id: int) -> str:  # noqa: A002 - the name of the tool's argument
    """Look up an order by its number."""
    return f'{{"id": {id}, "status": "shipped"}}'


async def chat() -> None:
    """Ask twice in one session."""
    instructions = "You answer questions about orders."
    agent = Agent(OpenAIChatCompletionClient("gpt-4o"), instructions, name="support", tools=[get_order])
    session = agent.create_session()
    asked = 'Where is order 7? [[tool:get_order {"id": 7}]][[then]][[say It is on its way.]]'
    print(await agent.run(asked, session=session))
    async for update in agent.run("Thanks! [[say You are welcome.]]", session=session, stream=True):
        print(update.text, end="")


asyncio.run(chat())
trace.get_tracer_provider().shutdown()
