"""Claude Code's CLI as the Claude Agent SDK meets it: a program that reads and writes lines of JSON.

What a prompt says decides what comes back. `main` is the program; `Script` serves a transport inside of the process.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

USAGE = {"input_tokens": 3, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 100, "output_tokens": 2}
MODEL = "claude-sonnet-5"


class Script:
    """One process of the CLI. `answer` yields what it writes for a line; an exit status ends it."""

    def __init__(self) -> None:
        self.session = "session-1"
        self.ids = 0
        self.held = False
        """A run waits to be interrupted."""

    def answer(self, line: dict[str, Any]) -> Iterator[dict[str, Any] | int]:
        """What the CLI writes for one line of its input, and the status with which it exits, if it does."""
        if line.get("type") == "control_request":
            response = {"subtype": "success", "request_id": line["request_id"], "response": {"commands": []}}
            yield {"type": "control_response", "response": response}
            if line["request"]["subtype"] == "interrupt" and self.held:
                self.held = False
                yield self._user({"type": "text", "text": "[Request interrupted by user]"})
                yield self._result(subtype="error_during_execution", is_error=True)
            return
        if line.get("type") != "user":
            return
        content = line["message"]["content"]
        words = content if isinstance(content, str) else content[0]["text"]
        init = {"subtype": "init", "model": MODEL, "tools": ["Read", "Task"], "cwd": "/shop"}
        yield {"type": "system", "session_id": self.session, **init}
        program = PROGRAMS.get(words.split(":")[0], Script.says)
        yield from program(self)

    # -- programs ------------------------------------------------------------------------------------------------------

    def says(self) -> Iterator[dict[str, Any] | int]:
        yield self._said(self._id(), _text("Good day."))
        yield self._result(output_tokens=9)

    def reads(self) -> Iterator[dict[str, Any] | int]:
        first = self._id()
        yield self._said(first, {"type": "thinking", "thinking": "I look.", "signature": "c2ln"})
        yield self._said(first, _text("Let me look."))
        yield self._said(first, _call("toolu_1", "Read", file_path="a.txt"))
        yield self._user(_returned("toolu_1", "green"))
        yield self._said(first, _call("toolu_2", "Read", file_path="b.txt"))  # the same answer goes on
        yield self._user(_returned("toolu_2", "red"))
        yield self._said(self._id(), _text("Green and red."))
        yield self._result(num_turns=3)

    def delegates(self) -> Iterator[dict[str, Any] | int]:
        call = _call("toolu_3", "Task", subagent_type="explorer", prompt="Find the tent.", description="d")
        yield self._said(self._id(), call)
        yield self._user(_text("Find the tent."), of="toolu_3")
        yield self._said(self._id(), _call("toolu_4", "Read", file_path="tents.txt"), of="toolu_3")
        yield self._user(_returned("toolu_4", "a tent"), of="toolu_3")
        yield self._said(self._id(), _text("It is a tent."), of="toolu_3")
        yield self._user(_returned("toolu_3", [_text("It is a tent.")]))
        yield self._said(self._id(), _text("Found."))
        yield self._result()

    def parallels(self) -> Iterator[dict[str, Any] | int]:
        """A sub-agent begins before the answer that calls two of them is whole."""
        first = self._id()
        for call_id in ("toolu_6", "toolu_7"):
            yield self._said(first, _call(call_id, "Task", subagent_type="explorer", prompt="Look."))
            yield self._said(self._id(), _text("Nothing."), of=call_id)
        for call_id in ("toolu_6", "toolu_7"):
            yield self._user(_returned(call_id, "Nothing."))
        yield self._said(self._id(), _text("Nothing at all."))
        yield self._result()

    def backgrounds(self) -> Iterator[dict[str, Any] | int]:
        """A sub-agent in the background speaks after the answer of the one that has called it, and after its run."""
        yield self._said(self._id(), _call("toolu_8", "Agent", subagent_type="explorer", prompt="Look."))
        yield self._user(_returned("toolu_8", "Launched."))
        yield self._said(self._id(), _text("It looks."))
        yield self._said(self._id(), _call("toolu_9", "Read", file_path="tents.txt"), of="toolu_8")
        yield self._result(num_turns=2)
        yield self._user(_returned("toolu_9", "a tent"), of="toolu_8")
        yield self._said(self._id(), _text("A tent."), of="toolu_8")

    def streams(self) -> Iterator[dict[str, Any] | int]:
        whole = self._id()
        yield from self._events(whole, "Good", " day.")
        yield self._said(whole, _text("Good day."))
        yield from self._ending(9)
        yield self._result(output_tokens=9)

    def stops(self) -> Iterator[dict[str, Any] | int]:
        """Hangs in the middle of an answer until it is interrupted."""
        self.held = True
        yield from self._events(self._id(), "Good")

    def crashes(self) -> Iterator[dict[str, Any] | int]:
        yield from self._events(self._id(), "Good")
        yield 3

    def fails(self) -> Iterator[dict[str, Any] | int]:
        said = self._said(self._id(), _text("API Error: 529 Overloaded"), model="<synthetic>")
        yield {**said, "error": "overloaded"}
        yield self._result(is_error=True, api_error_status=529, result="API Error: 529 Overloaded")

    def exhausts(self) -> Iterator[dict[str, Any] | int]:
        yield self._said(self._id(), _call("toolu_5", "Read", file_path="c.txt"))
        yield self._user(_returned("toolu_5", "blue"))
        yield self._result(subtype="error_max_turns", is_error=True, errors=["Reached maximum number of turns (1)"])

    def costs(self) -> Iterator[dict[str, Any] | int]:
        yield self._result(result="Total cost: $0.01", num_turns=0)

    def clears(self) -> Iterator[dict[str, Any] | int]:
        fresh = f"session-{int(self.session[-1]) + 1}"
        yield {"type": "conversation_reset", "new_conversation_id": fresh, "uuid": "u", "session_id": self.session}
        self.session = fresh
        yield self._result(result="", num_turns=0)

    # -- messages ------------------------------------------------------------------------------------------------------

    def _id(self) -> str:
        self.ids += 1
        return f"msg_{self.session}_{self.ids}"

    def _said(self, name: str, block: dict[str, Any], of: str | None = None, model: str = MODEL) -> dict[str, Any]:
        message = {"id": name, "type": "message", "role": "assistant", "model": model, "content": [block]}
        facts = {"parent_tool_use_id": of, "session_id": self.session, "uuid": "u"}
        return {"type": "assistant", "message": {**message, "stop_reason": None, "usage": USAGE}, **facts}

    def _user(self, block: dict[str, Any], of: str | None = None) -> dict[str, Any]:
        message = {"role": "user", "content": [block]}
        return {"type": "user", "message": message, "parent_tool_use_id": of, "session_id": self.session, "uuid": "u"}

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        facts = {"session_id": self.session, "uuid": "u", "parent_tool_use_id": None}
        return {"type": "stream_event", "event": event, **facts}

    def _events(self, name: str, *pieces: str) -> Iterator[dict[str, Any]]:
        message = {"id": name, "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": USAGE}
        yield self._event({"type": "message_start", "message": message})
        yield self._event({"type": "content_block_start", "index": 0, "content_block": _text("")})
        for piece in pieces:
            delta = {"type": "text_delta", "text": piece}
            yield self._event({"type": "content_block_delta", "index": 0, "delta": delta})

    def _ending(self, tokens: int) -> Iterator[dict[str, Any]]:
        yield self._event({"type": "content_block_stop", "index": 0})
        ending = {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": tokens}}
        yield self._event({"type": "message_delta", **ending})
        yield self._event({"type": "message_stop"})

    def _result(self, *, output_tokens: int = 20, **more: Any) -> dict[str, Any]:
        facts = {"duration_ms": 12, "duration_api_ms": 10, "num_turns": 1, "total_cost_usd": 0.01, "uuid": "u"}
        usage = {**USAGE, "output_tokens": output_tokens}
        head = {"type": "result", "subtype": "success", "is_error": False, "session_id": self.session}
        return {**head, **facts, "usage": usage, "stop_reason": "end_turn", "result": "Good day.", **more}


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def _call(call_id: str, name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call_id, "name": name, "input": given}


def _returned(call_id: str, content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": content}


PROGRAMS: dict[str, Callable[[Script], Iterator[dict[str, Any] | int]]] = {
    "read": Script.reads,
    "delegate": Script.delegates,
    "parallel": Script.parallels,
    "background": Script.backgrounds,
    "stream": Script.streams,
    "stop": Script.stops,
    "crash": Script.crashes,
    "fail": Script.fails,
    "exhaust": Script.exhausts,
    "/cost": Script.costs,
    "/clear": Script.clears,
}
"""By the first word of a prompt; any other prompt gets a greeting."""


def main() -> int:
    """Serve the lines of standard input until it ends."""
    script = Script()
    for line in sys.stdin:
        for message in script.answer(json.loads(line)):
            if isinstance(message, int):
                return message
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
