"""Every way in which an app talks to the Claude Agent SDK, as programs that tell all that the app can see."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import anyio
import claude_agent_sdk
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ProcessError, ResultMessage

from tests.integrations import claude_cli
from tests.integrations.conformance import Shape, raised

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

OPTIONS = ClaudeAgentOptions(system_prompt="Be brief.")


class Lines:
    """What the CLI has received: the lines of all its runs, without their random ids."""

    def __init__(self) -> None:
        self.received: list[Any] = []


@contextlib.contextmanager
def serve() -> Iterator[Any]:
    """Yield the place for the lines; nothing has to run."""
    yield Lines()


class InProcess(claude_agent_sdk.Transport):
    """A transport whose CLI is a part of this process."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._script = claude_cli.Script()
        self._send, self._receive = anyio.create_memory_object_stream[Any](100)

    async def connect(self) -> None:
        """Nothing has to be started."""

    async def write(self, data: str) -> None:
        line = json.loads(data)
        for message in self._script.answer(line):
            await self._send.send(message)
        self._lines.received.append({name: value for name, value in line.items() if name != "request_id"})

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        async for message in self._receive:
            if isinstance(message, int):
                raise ProcessError("Command failed", exit_code=message)
            yield message

    async def close(self) -> None:
        self._send.close()
        self._receive.close()

    def is_ready(self) -> bool:
        return True

    async def end_input(self) -> None:
        self._send.close()


def executable(directory: Path) -> Path:
    """Write the CLI as a program of its own; return its path."""
    path = directory / "claude"
    path.write_text(f"#!{sys.executable} -SE\n" + Path(claude_cli.__file__).read_text())
    path.chmod(0o755)
    return path


# -- programs of an app ------------------------------------------------------------------------------------------------


def client(*prompts: str, every: bool = False) -> Callable[[Any], Awaitable[Any]]:
    """Ask one after the other; read each response to its end, or all messages in one loop."""

    async def main(transport: Any) -> Any:
        seen: list[Any] = []
        async with ClaudeSDKClient(OPTIONS, transport=transport) as asked:
            for prompt in prompts:
                await asked.query(prompt)
                async for message in asked.receive_messages() if every else asked.receive_response():
                    seen.append(message)
                    if every and isinstance(message, ResultMessage):
                        break
        return seen

    return main


def once(prompt: Any) -> Callable[[Any], Awaitable[Any]]:
    """Ask by `query()`; an iterator of prompts is made anew each time."""

    async def main(transport: Any) -> Any:
        given = prompt() if callable(prompt) else prompt
        return [message async for message in claude_agent_sdk.query(prompt=given, options=OPTIONS, transport=transport)]

    return main


async def several() -> AsyncIterator[dict[str, Any]]:
    """Two prompts, written at once."""
    for words in ("Hi", "read: it"):
        yield {"type": "user", "message": {"role": "user", "content": [{"type": "text", "text": words}]}}


async def left(transport: Any) -> Any:
    """Stop reading after the first message of the model."""
    async with contextlib.aclosing(claude_agent_sdk.query(prompt="read: it", transport=transport)) as messages:  # type: ignore[type-var]  # a generator
        async for message in messages:
            if isinstance(message, claude_agent_sdk.AssistantMessage):
                return message
    return None


async def interrupted(transport: Any) -> Any:
    """Interrupt an answer, and ask again."""
    seen: list[Any] = []
    async with ClaudeSDKClient(OPTIONS, transport=transport) as asked:
        await asked.query("stop: now")
        async for message in asked.receive_response():
            if getattr(message, "event", {}).get("type") == "content_block_delta":
                await asked.interrupt()
            seen.append(message)
        await asked.query("Hi")
        seen += [message async for message in asked.receive_response()]
    return seen


async def unread(transport: Any) -> Any:
    """Ask, and leave without reading anything."""
    async with ClaudeSDKClient(OPTIONS, transport=transport) as asked:
        await asked.query("Hi")


def run(program: Callable[[Any], Awaitable[Any]], transport: Any) -> Any:
    """What the program sees; the streams that it has left open are collected."""

    async def main() -> Any:
        try:
            return await program(transport)
        except Exception as error:  # noqa: BLE001 - whatever the app would get is what is compared
            return raised(error)

    with mock.patch.dict(os.environ, {"CLAUDE_CODE_STREAM_CLOSE_TIMEOUT": "60000"}):
        outcome = asyncio.run(main())
    gc.collect()
    return outcome


PROGRAMS: dict[str, tuple[Callable[[Any], Awaitable[Any]], int]] = {
    "client": (client("Hi", "read: it", "delegate: it", "/cost", "/clear", "Hi"), 10),
    "client-messages": (client("Hi", "fail: now", "exhaust: it", every=True), 4),
    "query": (once("read: it"), 2),
    "query-streamed": (once("stream: it"), 1),
    "query-several": (once(several), 3),
    "query-crashed": (once("crash: it"), 1),
    "left": (left, 1),
    "interrupted": (interrupted, 2),
    "unread": (unread, 1),
}
"""By name: the program, and the calls that are recorded of it."""

SHAPES = tuple(
    Shape(name, lambda lines, program=program: run(program, InProcess(lines)), turns)  # type: ignore[misc]  # bound now
    for name, (program, turns) in PROGRAMS.items()
)
