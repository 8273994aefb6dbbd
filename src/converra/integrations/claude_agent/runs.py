"""The turns of one session of the CLI: its prompts and its messages, divided into calls of the model.

==========================  ==========================================================================================
what passes                 what becomes of it
==========================  ==========================================================================================
a prompt that is written    waits for the run that answers it: each prompt owes a run of its own
the first part of an answer   begins a call, whose request is what has come since the answer before
further parts, events       belong to the call with their message's id
a result of a tool          waits for the next call; that of a sub-agent ends the sub-agent's call
a result of the run         ends the call; a prompt without an answer is recorded without one
`conversation_reset`        ends the conversation of the session (`/clear`)
==========================  ==========================================================================================

A sub-agent's messages name the call that has started it. They are a lane of their own beside the main one.
"""

from __future__ import annotations

from contextvars import Context, copy_context
from math import nan
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.history.turn import Answer, Request, Run, Scope
from converra.integrations.anthropic.messages import MESSAGES
from converra.integrations.claude_agent.messages import Parts, failure_of, of_run, spoken, sub_agents
from converra.integrations.payload.fields import copied, fields, items, parsed, string
from converra.process.guard import guard, guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.integrations import Capture, CapturedCall


class Prompt(NamedTuple):
    """A message that the app has written."""

    message: dict[str, Any]
    context: Context
    """The context in which it was written: its run belongs to the conversation that was active there."""
    at: float


class Lane:
    """The main agent, or one sub-agent: a chain of answers, and what has come since the last of them."""

    def __init__(self, run: Run | None = None) -> None:
        self.run: Run | None = run
        self.pending: list[dict[str, Any]] = []
        """Messages for the model since its last answer."""
        self.since: float | None = None
        """`time.perf_counter()` of the last of them."""
        self.last: str | None = None
        """Id of the last answer."""
        self.id: str | None = None
        """Id of the answer that is under way."""
        self.parts: Parts | None = None
        self.call: CapturedCall | None = None
        self.seen: float | None = None
        """`time.perf_counter()` of its last part."""

    def add(self, message: Any) -> None:
        """Keep a message for the next request."""
        self.pending.append(copied(message))
        self.since = perf_counter()

    def so_far(self) -> Answer:
        """Return the answer as far as it has arrived. It is whole if the results of its calls have come."""
        answer = Answer() if self.parts is None else self.parts.answer()
        answer.partial = answer.partial or not self.pending
        return answer

    def over(self) -> CapturedCall | None:
        """Let go of the call under way, if there is one; its answer is the last one from now on."""
        call, self.call = self.call, None
        if self.parts is not None:
            self.last, self.parts, self.id = self.id, None, None
        return call


class Session:
    """A connection of the app with one process of the CLI: the lines of both directions."""

    def __init__(self, capture: Callable[[], Capture | None], system: str | None) -> None:
        self.last: float | None = None
        """`time.perf_counter()` of the last message."""
        self._capture = capture
        self._system = system
        self._prompts: list[Prompt] = []
        self._context: Context | None = None
        self._lanes: dict[str | None, Lane] = {None: Lane()}
        self._agents: dict[str, tuple[str | None, Lane, str | None]] = {}
        """Id of a call that has started a sub-agent → the agent's name, and the lane that has called it."""
        self._id: str | None = None
        self._model: str | None = None
        self._named: tuple[Any, ...] = ()
        """The tools as the CLI names them."""
        self._tools: list[dict[str, Any]] = []
        self._answers = 0
        """Calls of the model in this run."""
        self._running = False
        """A run is under way."""

    # -- what the app writes ---------------------------------------------------------------------------------------

    def written(self, line: str) -> None:
        """Read one line that the app writes to the CLI: a prompt, or something about the protocol."""
        own = fields(parsed(line))
        if own.get("type") == "user":
            self._prompts.append(Prompt(fields(own.get("message")), copy_context(), perf_counter()))

    # -- what the CLI sends ----------------------------------------------------------------------------------------

    def see(self, data: Any) -> None:
        """Read one message of the CLI."""
        own = fields(data)
        kind, session = own.get("type"), own.get("session_id")
        if session.__class__ is str and session:
            self._id = session
        reader = _READERS.get(kind) if isinstance(kind, str) else None
        if reader is not None:
            reader(self, own)

    def ended(self, error: BaseException | None = None) -> None:
        """Note that the messages have ended. If the app only stops reading, others may follow."""
        with guard("ending the messages of an agent"):
            if error is None:
                self.close()
            elif isinstance(error, Exception):
                self._break(error)

    def watch_drop(self, owner: Any) -> None:
        """Do nothing: an app reads the messages of one session by several iterators."""

    @guarded("closing an agent's session")
    def close(self) -> None:
        """End what is under way: nothing follows."""
        self._break(None)

    def _break(self, error: Exception | None) -> None:
        """Record the answers under way, and the messages that have none, with the error if there is one."""
        lanes = self._lanes
        main = lanes[None]
        for prompt in self._prompts:
            main.pending.append(prompt.message)
            self._context = self._context or prompt.context
        self._prompts.clear()
        for lane in list(lanes.values()):
            answer = lane.so_far()
            call = lane.over()
            if call is not None:
                _finish(call, answer, lane.seen, error)
            if lane.pending:
                call = self._begin(lane)
                if call is not None:
                    _finish(call, None, nan, error)

    # -- calls -----------------------------------------------------------------------------------------------------

    def _lane(self, own: dict[str, Any]) -> Lane:
        key = string(own.get("parent_tool_use_id"))
        lane = self._lanes.get(key)
        if lane is None:
            name, caller, message_id = self._agents.get(key or "", (None, None, None))
            if caller is not None and caller.id == message_id:
                self._end(caller)  # its answer stands before the messages of those that it has called
            lane = self._lanes[key] = Lane(Run(name, key))
        return lane

    def _take_prompt(self, lane: Lane) -> None:
        """Have the next prompt answered, if no run is under way."""
        if lane.run is None and not self._running and self._prompts:
            prompt = self._prompts.pop(0)
            self._running, self._context = True, prompt.context
            lane.pending.append(prompt.message)
            lane.since = max(prompt.at, self.last or prompt.at)

    def _open(self, lane: Lane, message_id: str | None) -> Parts:
        """Return the parts of an answer; a new id begins a call."""
        if lane.parts is not None and (message_id is None or lane.id == message_id):
            return lane.parts
        self._end(lane)
        self._take_prompt(lane)
        call = self._begin(lane)
        lane.parts, lane.id, lane.call = (
            Parts(resumed=message_id is not None and message_id == lane.last),
            message_id,
            call,
        )
        self._answers += 1
        if call is not None:
            call.streaming(lane.so_far)
        return lane.parts

    def _begin(self, lane: Lane) -> CapturedCall | None:
        """Begin the call whose request is what waits in a lane."""
        capture = self._capture()
        pending, lane.pending = lane.pending, []
        since, lane.since = lane.since, None
        if capture is None or not capture.active:
            return None
        request = Request(MESSAGES, pending, self._system if lane.run is None else None, self._model)
        request.previous = lane.last or (lane.run.id if lane.run else None) or self._id or "new"
        request.tools, request.scope, request.run = self._tools, Scope(self._id, run=lane.run), lane.run
        request.branch = lane.run is not None
        request.waited = 0.0 if since is None else perf_counter() - since
        context = self._context or copy_context()
        return context.copy().run(capture.begin, request)

    def _end(self, lane: Lane) -> None:
        """End the call of a lane whose answer is whole."""
        if lane.parts is None:
            return
        answer = lane.parts.whole()
        call = lane.over()
        if call is not None:
            call.end(answer, lane.seen)

    # -- kinds of messages -----------------------------------------------------------------------------------------

    def _assistant(self, own: dict[str, Any]) -> None:
        message = fields(own.get("message"))
        lane = self._lane(own)
        for call_id, name in sub_agents(message):
            self._agents[call_id] = name, lane, string(message.get("id"))
        self._open(lane, string(message.get("id"))).message(own)
        lane.seen = perf_counter()

    def _event(self, own: dict[str, Any]) -> None:
        event = fields(own.get("event"))
        lane = self._lanes.get(string(own.get("parent_tool_use_id"))) or self._lane(own)
        begun = string(fields(event.get("message")).get("id")) if event.get("type") == "message_start" else None
        parts = lane.parts if begun is None else self._open(lane, begun)
        if parts is None:
            return  # of an answer that has ended
        parts.event(event)
        lane.seen = perf_counter()
        if parts.started and lane.call is not None:
            lane.call.first_token()

    def _user(self, own: dict[str, Any]) -> None:
        """Read a tool's result, or what the CLI tells the model; a replay of a prompt is known."""
        if own.get("isReplay") is True:
            return
        message = fields(own.get("message"))
        for block in map(fields, items(message.get("content"))):
            agent = self._lanes.get(string(block.get("tool_use_id")) or "")
            if agent is not None:  # its result has come
                self._end(agent)
        self._lane(own).add(message)

    def _system_message(self, own: dict[str, Any]) -> None:
        if own.get("subtype") == "init":
            self._model = string(own.get("model")) or self._model
            names = tuple(items(own.get("tools")))
            if names != self._named:  # each run names the same ones
                self._named = names
                self._tools = [{"name": name} for name in names if isinstance(name, str)]

    def _result(self, own: dict[str, Any]) -> None:
        """End the run: its facts go to its last answer, or to the message that has none."""
        lane = self._lanes[None]
        if lane.parts is not None:
            lane.parts.result(own, alone=self._answers == 1)
            self._end(lane)
        else:
            self._take_prompt(lane)
            call = self._begin(lane) if lane.pending else None
            failed = own.get("is_error") is True
            messages = () if failed else spoken(own)
            if call is not None:
                facts = {"error": failure_of(own)} if failed else of_run(own)
                call.end(Answer(messages, metadata=facts if failed or messages else None))
        self._answers, self._running = 0, False
        self._lanes = {key: lane for key, lane in self._lanes.items() if key is None or lane.parts is not None}
        self.last = perf_counter()

    def _reset(self, _own: dict[str, Any]) -> None:
        """End the conversation: what follows is another one, in a session of its own."""
        self.close()
        capture = self._capture()
        if capture is not None and self._id is not None:
            capture.complete(Scope(self._id))
        self._lanes.clear()
        self._lanes[None] = Lane()
        self._agents, self._running = {}, False


def _finish(call: CapturedCall, answer: Answer | None, ended: float | None, error: Exception | None) -> None:
    if error is None:
        call.end(answer or Answer(), ended)
    else:
        call.fail(error, answer)


_READERS: dict[str, Callable[[Session, dict[str, Any]], None]] = {
    "assistant": Session._assistant,  # noqa: SLF001 - its own methods
    "stream_event": Session._event,  # noqa: SLF001 - as above
    "user": Session._user,  # noqa: SLF001 - as above
    "system": Session._system_message,  # noqa: SLF001 - as above
    "result": Session._result,  # noqa: SLF001 - as above
    "conversation_reset": Session._reset,  # noqa: SLF001 - as above
}
