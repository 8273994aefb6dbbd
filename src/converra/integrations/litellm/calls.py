"""The calls of providers that are under way, and the observers that begin and end their turns.

litellm has one `Logging` object for each call of the app, and uses it for the call's own retries as well. A turn is
kept by it. Not every call reports its end: a task that is cancelled just disappears, and the `Logging` object with it.
The turn then ends as cancelled.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import weakref
from math import nan
from typing import TYPE_CHECKING, Any, NamedTuple

from converra.history.turn import Answer
from converra.integrations.litellm import reading
from converra.integrations.payload.fields import fields
from converra.process import context
from converra.process.guard import guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.history.turn import Request
    from converra.integrations import Capture, RejectableCall

CACHED = "cached_response"
"""Provider of a stream that litellm makes of an answer from its cache."""


class Attempt(NamedTuple):
    """One call under way. Without a `call` it is not recorded: it has no conversation, or an outer layer records it."""

    call: RejectableCall | None
    facts: dict[str, Any]
    """Metadata of its answer."""
    estimated: bool = False
    """No provider reports its usage: the answer is a mock, or comes from a cache."""

    def read(self, answer: Answer) -> Answer:
        """Add the facts of the call to an answer."""
        return reading.marked(reading.without_usage(answer) if self.estimated else answer, self.facts)


class Attempts:
    """The calls under way in this process, each by its `Logging` object."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[weakref.ref[Any], Attempt]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, log: Any) -> bool:
        return id(log) in self._open

    def add(self, log: Any, attempt: Attempt) -> None:
        """Keep a call until its end, or the end of its `Logging` object."""
        gone = functools.partial(self._vanished, id(log))
        self._open[id(log)] = (weakref.ref(log, gone), attempt)

    def take(self, log: Any) -> Attempt | None:
        """Let go of a call that is over; None if it is over already, or not recorded."""
        held = self._open.pop(id(log), None)
        return None if held is None or held[1].call is None else held[1]

    @guarded("letting go of litellm's calls")
    def give_up(self) -> None:
        """Record the questions of all calls under way: how they end is no longer observed."""
        while self._open:
            _, (_, attempt) = self._open.popitem()
            if attempt.call is not None:
                attempt.call.end(Answer(), nan)

    @guarded("ending a call of litellm's that has disappeared")
    def _vanished(self, key: int, _log: Any) -> None:
        held = self._open.pop(key, None)
        if held is not None and held[1].call is not None:
            held[1].call.fail(asyncio.CancelledError())


ATTEMPTS = Attempts()


MOCK = "mock-key"
"""The key with which litellm calls `pre_call` for a `mock_response`."""

BEGINNING = threading.local()
"""`log`: the `Logging` object of the call whose turn begins just now in this thread."""


def is_custom(provider: Any) -> bool:
    """Report whether the app itself has written the code of a provider; litellm does not say when it calls it."""
    return provider in getattr(sys.modules.get("litellm"), "_custom_providers", ())


def begin(capture: Capture, log: Any, sent: dict[str, Any] | None = None, **facts: Any) -> Attempt | None:
    """Begin the turn of a call; None if it is no turn of a conversation.

    Args:
        capture: The recorder.
        log: litellm's `Logging` object of the call.
        sent: The arguments of its `pre_call`, if it was called.
        facts: Metadata of the answer, such as `cacheHit`: it comes from no provider.

    """
    if log.call_type not in reading.CHATS:
        return None
    details, sent = log.model_call_details, sent or {}
    parameters, extra = fields(details.get("litellm_params")), fields(sent.get("additional_args"))
    metadata = fields(parameters.get("metadata"))
    asked = reading.Asked(
        str(getattr(log.call_type, "value", log.call_type)),
        sent.get("model") or details.get("model"),
        details.get("messages") or log.messages,
        fields(details.get("optional_params")),
        sent.get("input"),
        extra.get("complete_input_dict"),
        extra.get("api_base"),
    )
    request = reading.request(asked)
    request.scope = reading.scope(parameters, metadata)
    known = reading.facts(metadata, details.get("custom_llm_provider"))
    if sent.get("api_key") == MOCK:
        facts["mocked"] = True
    known.update(facts)
    return Attempt(_begun(capture, log, request), known, bool(facts))


def _begun(capture: Capture, log: Any, request: Request) -> RejectableCall | None:
    """Begin a call, also where litellm has handed it, with its context, to a thread of its pool."""
    BEGINNING.log = log
    try:
        if not str(log.call_type).startswith("a"):
            return capture.begin(request)
        with context.handed_over():
            return capture.begin(request)
    finally:
        BEGINNING.log = None


def begun(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Begin a turn as litellm is about to send its request: `pre_call(input, api_key, model, additional_args)`."""
    log = args[0]
    if log in ATTEMPTS:  # litellm tries again
        return
    if len(args) > 1:
        kwargs = {**dict(zip(("input", "api_key", "model", "additional_args"), args[1:], strict=False)), **kwargs}
    attempt = begin(capture, log, kwargs)
    if attempt is not None:
        ATTEMPTS.add(log, attempt)


def failed(_capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """End the turn of a call that has failed: `failure_handler(exception, …)`."""
    _fail(args[0], args[1] if len(args) > 1 else kwargs.get("exception"))


def _fail(log: Any, error: Any) -> None:
    attempt = ATTEMPTS.take(log)
    if attempt is not None and attempt.call is not None:
        attempt.call.fail(error if isinstance(error, BaseException) else RuntimeError())


class Checked(NamedTuple):
    """A whole answer that litellm checks by the app's rules, after its turn has ended."""

    reject: Callable[[BaseException], None]

    def returned(self, result: Any) -> None:
        """Do nothing: the answer was accepted."""

    def raised(self, error: BaseException) -> None:
        """Record why the app does not get the answer."""
        self.reject(error)


def answered(capture: Capture, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Checked | None:
    """End the turn of a whole answer: `post_call_processing(original_response, optional_params, …)`."""
    log, result = fields(kwargs["optional_params"]).get("litellm_logging_obj"), kwargs["original_response"]
    return _arrived(capture, log, result)


def _arrived(capture: Capture, log: Any, result: Any) -> Checked | None:
    """End the turn of a whole answer. Of a provider that the app has written, the time that it took is not known.

    Its streams have turns of their own; older versions put their whole answer together at the end.
    """
    if log in ATTEMPTS:
        return ended(log, result)
    if log is None or log.stream:
        return None
    if is_custom(log.model_call_details.get("custom_llm_provider")) and "choices" in fields(result):
        _record(capture, log, result)
    return None


def kept(capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """End the turn of a whole answer: `set_cache(result, …, kwargs)`, which is called with and without a cache."""
    given = kwargs.get("kwargs")
    log = fields(given).get("litellm_logging_obj")
    result = kwargs["result"] if "result" in kwargs else args[1]
    if hasattr(sys.modules.get("litellm.utils"), "post_call_processing"):  # where the turn has ended, if it was one
        ended(log, result)
    else:
        _arrived(capture, log, result)


def succeeded(_capture: Capture, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """End a turn that nothing has ended yet: `success_handler(result, …)`, at the end of any call."""
    ended(args[0], args[1] if len(args) > 1 else kwargs.get("result"))


def ended(log: Any, result: Any) -> Checked | None:
    """End the turn of a call with its whole answer."""
    attempt = None if result is None else ATTEMPTS.take(log)
    if attempt is None or attempt.call is None:
        return None
    answer = attempt.read(reading.answer(result))
    attempt.call.end(answer)
    return Checked(attempt.call.rejecter(answer))


def _record(capture: Capture, log: Any, result: Any, **facts: Any) -> None:
    attempt = begin(capture, log, **facts)
    if attempt is not None and attempt.call is not None:
        attempt.call.end(attempt.read(reading.answer(result)), nan)


class LookUp(NamedTuple):
    """litellm looks for an answer in its cache."""

    capture: Capture
    log: Any

    def returned(self, result: Any) -> None:
        """Record an answer that was found. A stream of it is recorded as it is read."""
        found = getattr(result, "cached_result", None)
        if found is not None and not hasattr(found, "__next__") and not hasattr(found, "__anext__"):
            _record(self.capture, self.log, found, cacheHit=True)

    def raised(self, error: BaseException) -> None:
        """Do nothing: litellm asks the provider then."""


class Retried(NamedTuple):
    """litellm tries a call again; an async one past its own wrapper."""

    log: Any

    def returned(self, result: Any) -> None:
        """End the turn with the answer; a stream has taken it over."""
        ended(self.log, result)

    def raised(self, error: BaseException) -> None:
        """End the turn: all tries have failed."""
        _fail(self.log, error)


def retried(_capture: Capture, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> Retried:
    """Observe `completion_with_retries(…, litellm_logging_obj)` and the like."""
    return Retried(kwargs.get("litellm_logging_obj"))


def looked_up(capture: Capture, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> LookUp:
    """Observe `get_cache(…, logging_obj, …)`."""
    return LookUp(capture, kwargs["logging_obj"])
