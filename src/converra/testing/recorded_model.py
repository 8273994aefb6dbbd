"""A model that says what it said before: recorded answers, in their order, to chat completions on loopback."""

from __future__ import annotations

import json
import threading
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

_PATH = "/v1/chat/completions"


class RecordedModel:
    """The model's side of one recorded conversation, and what the app's side was.

    Use it as a `with` block. Once all answers are given, a further call is refused with status 400.

    Args:
        messages: The messages as the API has them: dicts with `role`, `content`, and, if there are any, `toolCalls`
            and `model`.

    Example::

        with RecordedModel(messages) as recorded:
            monkeypatch.setenv("OPENAI_BASE_URL", recorded.url)

    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self._messages = _with_call_ids(messages)
        self._left = [message for message in self._messages if _is_answer(message)]
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"model": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The address for `OPENAI_BASE_URL`, while the block lasts."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @cached_property
    def model(self) -> str:
        """The model that answered first."""
        return next((str(message["model"]) for message in self._messages if message.get("model")), "recorded")

    @cached_property
    def opening(self) -> list[dict[str, str]]:
        """The system messages before the first question."""
        first = next((at for at, message in enumerate(self._messages) if message["role"] != "system"), 0)
        return [{"role": "system", "content": message["content"]} for message in self._messages[:first]]

    @cached_property
    def questions(self) -> list[str]:
        """Texts of the user's messages."""
        return [message["content"] for message in self._messages if message["role"] == "user"]

    @cached_property
    def said(self) -> list[tuple[str, str]]:
        """Role and content of each message."""
        return [(message["role"], message["content"]) for message in self._messages]

    @cached_property
    def tool_calls(self) -> list[tuple[str, Any]]:
        """Name and arguments of each call that the model made."""
        made = (call for message in self._messages if _is_answer(message) for call in message.get("toolCalls") or ())
        return [(call.get("name"), call.get("arguments")) for call in made]

    @cached_property
    def requests(self) -> list[list[dict[str, Any]]]:
        """The messages of each call that led to the recorded conversation, in the form of chat completions.

        Each is the whole conversation up to an answer. If the conversation ends without one, as after an error, the
        last has all of it; the model refuses that call with status 400.
        """
        history = [_chat_message(message) for message in self._messages]
        ends = [at for at, message in enumerate(self._messages) if _is_answer(message)]
        if self._messages and not _is_answer(self._messages[-1]):
            ends.append(len(history))
        return [history[:end] for end in ends]

    def result(self, call_id: str) -> dict[str, str]:
        """Return a tool's result for a call, as the message that an app sends.

        Args:
            call_id: The id of the call, as in the model's answer.

        Raises:
            KeyError: No result was recorded for it.

        """
        results = (message for message in self._messages if message["role"] == "tool" and not _is_answer(message))
        for message in results:
            if any(call.get("id") == call_id for call in message.get("toolCalls") or ()):
                return {"role": "tool", "tool_call_id": call_id, "content": message["content"]}
        raise KeyError(call_id)

    def next_answer(self) -> dict[str, Any] | None:
        """Take the next answer; None when all are given."""
        with self._lock:
            return self._left.pop(0) if self._left else None


def _with_call_ids(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give an id to each call without one, and to the result that follows it."""
    whole: list[dict[str, Any]] = []
    waiting: list[str] = []
    for number, message in enumerate(messages):
        calls = [dict(call) for call in message.get("toolCalls") or ()]
        for at, call in enumerate(calls):
            if not call.get("id"):
                call["id"] = f"call_{number}_{at}" if _is_answer(message) or not waiting else waiting.pop(0)
        if _is_answer(message):
            waiting += [call["id"] for call in calls]
        elif calls:
            waiting = [each for each in waiting if each != calls[0]["id"]]
        whole.append({**message, "toolCalls": calls} if calls else dict(message))
    return whole


def _chat_message(message: Mapping[str, Any]) -> dict[str, Any]:
    if _is_answer(message):
        return {name: value for name, value in _message(message).items() if value is not None}
    chat = {"role": message["role"], "content": message["content"]}
    if message["role"] == "tool":
        chat["tool_call_id"] = next((call["id"] for call in message.get("toolCalls") or ()), "call")
    return chat


def _is_answer(message: Mapping[str, Any]) -> bool:
    """Return True for a message of the model: text, or a turn that only calls tools."""
    calls = message.get("toolCalls") or ()
    return message["role"] == "assistant" or (message["role"] == "tool" and any("arguments" in call for call in calls))


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    model: RecordedModel

    def do_POST(self) -> None:
        """Answer with what comes next."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.model.next_answer() if self.path == _PATH else None
        if answer is None:
            self._send(400, "application/json", json.dumps({"error": {"message": "no recorded answer is left"}}))
        elif asked.get("stream"):
            chunks = (json.dumps(chunk) for chunk in _chunks(answer))
            self._send(200, "text/event-stream", "".join(f"data: {chunk}\n\n" for chunk in (*chunks, "[DONE]")))
        else:
            self._send(200, "application/json", json.dumps(_completion(answer)))

    def _send(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server calls it by
        """Say nothing: a test has its own output."""


def _message(answer: Mapping[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer["content"] or None}
    if answer.get("toolCalls"):
        message["tool_calls"] = [_call(at, call) for at, call in enumerate(answer["toolCalls"])]
    return message


def _call(at: int, call: Mapping[str, Any]) -> dict[str, Any]:
    given = call.get("arguments", "")
    arguments = given if isinstance(given, str) else json.dumps(given)
    function = {"name": call.get("name"), "arguments": arguments}
    return {"index": at, "id": call.get("id") or f"call_{at}", "type": "function", "function": function}


def _frame(answer: Mapping[str, Any], kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    model = answer.get("model", "recorded")
    return {"id": "recorded", "object": kind, "created": 0, "model": model, "choices": [{"index": 0, **choice}]}


def _completion(answer: Mapping[str, Any]) -> dict[str, Any]:
    finish = "tool_calls" if answer.get("toolCalls") else "stop"
    return _frame(answer, "chat.completion", {"message": _message(answer), "finish_reason": finish})


def _chunks(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    finish = "tool_calls" if answer.get("toolCalls") else "stop"
    kind = "chat.completion.chunk"
    return [
        _frame(answer, kind, {"delta": _message(answer), "finish_reason": None}),
        _frame(answer, kind, {"delta": {}, "finish_reason": finish}),
    ]
