"""A web chat, served by several worker processes: one recorded conversation for each browser session.

In a checkout: `pip install ".[openai,server]"`. Then:

    converra dev --fake-llm -- uvicorn web_app:app --app-dir examples --workers 2

Then open http://127.0.0.1:8000. With a Converra key in CONVERRA_API_KEY and an OpenAI key in OPENAI_API_KEY, run
`uvicorn web_app:app --app-dir examples --workers 2`.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

import converra
from converra.asgi import lifespan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

PROMPT, MODEL = "prompt_support", "gpt-4o-mini"
SYSTEM: Any = {"role": "system", "content": "You are the support assistant of a shop for tents."}

converra.instrument()


@lifespan  # delivers when a worker stops
@asynccontextmanager
async def connected(_: Starlette) -> AsyncIterator[dict[str, AsyncOpenAI]]:
    """Open one connection to the model for each worker."""
    async with AsyncOpenAI() as client:
        yield {"client": client}


async def page(_: Request) -> Response:
    """Serve the page. The browser keeps the history, and sends all of it with each question."""
    return HTMLResponse(PAGE)


async def chat(request: Request) -> Response:
    """Answer the last question of a history: `{"session": ..., "history": [...]}`."""
    asked = await request.json()
    try:
        conversation = converra.conversation(PROMPT, session_id=asked["session"], keep_open=True)
    except converra.InvalidArgumentError as error:
        raise HTTPException(400, str(error)) from error
    answer = streamed(request.state.client, conversation, asked["history"])
    return StreamingResponse(answer, media_type="text/plain; charset=utf-8")


async def streamed(client: AsyncOpenAI, conversation: converra.Conversation, history: list[Any]) -> AsyncIterator[str]:
    """Stream the answer, and record it as a turn of the session's conversation."""
    with conversation:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[SYSTEM, *history], stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            for choice in chunk.choices:
                yield choice.delta.content or ""
    # When this response ends, the browser may ask again or end the session, perhaps at another worker. By then this
    # turn should have arrived. Usually it was sent while the answer streamed, so the wait is short.
    await asyncio.to_thread(converra.flush, 2)


async def end(request: Request) -> Response:
    """Complete a session, also one that other workers have answered in."""
    asked = await request.json()
    try:
        converra.complete(PROMPT, asked["session"])
    except converra.InvalidArgumentError as error:
        raise HTTPException(400, str(error)) from error
    return PlainTextResponse("Goodbye.")


PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Tents</title>
<style>
  body { font: 1rem/1.5 system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
  p { white-space: pre-wrap } .user { text-align: right }
  input { width: 100%; font: inherit; padding: .5rem; box-sizing: border-box }
</style>
<h1>Tents</h1><main aria-live="polite"></main>
<form><input name="question" aria-label="Question" placeholder="Where is my order?" autocomplete="off"></form>
<p><button id="end">End the chat</button></p>
<script>
  const post = (path, data) => fetch(path, {method: "POST", body: JSON.stringify(data)})
  const form = document.querySelector("form")
  let session = crypto.randomUUID(), history = []

  function show(role, content) {
    const line = document.querySelector("main").appendChild(document.createElement("p"))
    line.className = role
    line.textContent = content
    return line
  }

  form.onsubmit = async event => {
    event.preventDefault()
    const content = form.question.value
    if (!content) return
    form.reset()
    show("user", content)
    history.push({role: "user", content})
    const response = await post("chat", {session, history}), line = show("assistant", "")
    const words = response.body.pipeThrough(new TextDecoderStream()).getReader()
    for (let next; !(next = await words.read()).done;) line.textContent += next.value
    history.push({role: "assistant", content: line.textContent})
  }

  document.querySelector("#end").onclick = async () => {
    const response = await post("end", {session})
    show("assistant", await response.text())
    session = crypto.randomUUID(), history = []
  }
</script>
"""

app = Starlette(
    routes=[
        Route("/", page),
        Route("/chat", chat, methods=["POST"]),
        Route("/end", end, methods=["POST"]),
    ],
    lifespan=connected,
)
