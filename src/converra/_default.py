"""The one process-wide recorder: all state that the module-level functions share is the `_recorder` here.

Made at the first use from arguments and environment; `instrument()` with other settings replaces it.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from converra import config
from converra.capture.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from converra.capture.handle import Conversation
    from converra.capture.reports import Report
    from converra.capture.routing import CallCapture
    from converra.config import Config
    from converra.delivery.stats import Stats
    from converra.history.turn import Request
    from converra.spans.bridge import Bridge

_recorder: Recorder | None = None
_bridge: Bridge | None = None
"""The reader of spans for the recorder, once a span has come."""
_making = Lock()
_asked: Config | None = None
"""The settings that `instrument()` asked for last."""
_make: Callable[[Config], Recorder] = Recorder
"""Makes a recorder of settings; tests replace it, see `swapped`."""


def recorder() -> Recorder:
    """The process-wide recorder, made from the environment if nothing was set yet.

    Raises InvalidArgumentError where the environment holds a setting that can never work.
    """
    return _recorder or _made({})


def capture() -> CallCapture:
    """Return what the process-wide recorder offers to integrations."""
    return (_recorder or _made({})).capture


def bridge() -> Bridge | None:
    """Return what records the spans of this process, or None if capture is disabled."""
    global _bridge  # noqa: PLW0603 - the one address of state
    present, found = _recorder or _made({}), _bridge
    if found is not None and found.recorder is present:
        return found
    if not present.config.enabled:
        return None
    from converra.spans.bridge import Bridge  # noqa: PLC0415 - most apps never need it

    _bridge = Bridge.of(present)
    return _bridge


def check_environment() -> None:
    """Raise InvalidArgumentError if a setting in the environment can never work."""
    config.load({})


def _made(arguments: Mapping[str, Any]) -> Recorder:
    """The recorder with these settings: the present one if it has them, else a new one in its place."""
    global _asked, _recorder  # noqa: PLW0603 - the one address of state
    wanted = config.load(arguments)
    with _making:
        present = _recorder
        if present is not None and _asked == wanted:
            _asked = wanted  # the same, and yet another: `swapped` wants to know who asked
            return present
        _asked, _recorder = wanted, _make(wanted)
        made = _recorder
    if present is not None:
        present.uninstrument()
        present.shutdown()
    return made


@contextmanager
def swapped(make: Callable[[Config], Recorder]) -> Iterator[None]:
    """Have everything recorded by a recorder that `make` makes of the settings, until the block ends; for tests.

    It is switched on at once. Afterwards all is as if it had never been there. An `instrument()` that was called
    meanwhile holds from then on: a module of the app that calls it is imported only once.
    """
    global _asked, _make, _recorder  # noqa: PLW0603 - the one address of state
    before, usual = (_recorder, _asked, _recorder is not None and _recorder.active), _make
    _uninstrument(_recorder)
    _make, _asked = make, _asked or config.load({})
    _recorder, at_first = make(_asked), _asked
    _recorder.instrument()
    try:
        yield
    finally:
        _uninstrument(_recorder)
        _recorder.shutdown()
        _make = usual
        _recorder, asked, on = before
        if _asked is at_first:
            _asked = asked
        elif _recorder is None or asked != _asked:
            _recorder, on = usual(_asked), True
        if on and _recorder is not None:
            _recorder.instrument()


def _uninstrument(recorder: Recorder | None) -> None:
    if recorder is not None:
        recorder.uninstrument()


def instrument(
    prompt_id: str | Callable[[Request], str | None] | None = None,
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    enabled: bool | None = None,
    outbox: str | None = None,
    relay: str | None = None,
    integrations: str | Sequence[str] | None = None,
    flush_interval: float | None = None,
    idle_timeout: float | None = None,
    timeout: float | None = None,
    shutdown_timeout: float | None = None,
    max_pending_bytes: int | None = None,
    redact: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
    capture_content: bool | None = None,
    sample_rate: float | None = None,
    console: bool | None = None,
    handle_sigterm: bool | None = None,
    otel: bool | None = None,
) -> Report:
    """Capture every model call from now on.

    Libraries that are imported already are patched now, others when they are imported. Calling it again is harmless;
    with other settings it starts over with those. Where an argument is None, the environment's value applies, then the
    default.

    Args:
        prompt_id: The prompt of calls outside any `conversation()`: a string, or as an argument also a callable that
            maps a call to a prompt id or None. Environment: `CONVERRA_PROMPT_ID`.
        api_key: The key of the Conversations API. White space around it is trimmed. It is never logged and never in a
            `repr`. Environment: `CONVERRA_API_KEY`.
        base_url: The URL of the Conversations API. Default: `https://converra.ai/api/v1`. Environment:
            `CONVERRA_BASE_URL`.
        enabled: `false`: nothing is patched, no thread is started, nothing is logged. Default: `true`. Environment:
            `CONVERRA_ENABLED`.
        outbox: The path of a file that keeps pending messages through a crash, or the URL of a Redis server that the
            processes of all machines share (`redis://`, `rediss://`). Without one they are kept in memory. Environment:
            `CONVERRA_OUTBOX`.
        relay: With a Redis outbox: `inline`, each process takes part in sending; `none`, only `converra relay` sends.
            Default: `inline`. Environment: `CONVERRA_RELAY`.
        integrations: The names of the integrations to switch on, or names with `-` before them to leave those out: a
            list, or separated by commas. Without it, all are on. Environment: `CONVERRA_INTEGRATIONS`.
        flush_interval: Seconds: the longest that a turn waits before it is sent. Default: `2.0`. Environment:
            `CONVERRA_FLUSH_INTERVAL`.
        idle_timeout: Seconds without a call after which an implicit conversation ends. Default: `300.0`. Environment:
            `CONVERRA_IDLE_TIMEOUT`.
        timeout: Seconds: the longest that one HTTP request may take. Default: `10.0`. Environment: `CONVERRA_TIMEOUT`.
        shutdown_timeout: Seconds: the longest that delivery may delay the exit of the process. Default: `5.0`.
            Environment: `CONVERRA_SHUTDOWN_TIMEOUT`.
        max_pending_bytes: Bytes (64 MiB): the bound of pending messages in memory. Past it the newest turns are
            dropped, counted and logged. Default: `67108864`. Environment: `CONVERRA_MAX_PENDING_BYTES`.
        redact: A callable `(message: dict) -> dict | None`. It runs before anything leaves the process or touches a
            disk; None drops the message.
        capture_content: `false`: roles, models, usage, latency and tool names are kept, texts are not. Default: `true`.
            Environment: `CONVERRA_CAPTURE_CONTENT`.
        sample_rate: The share of conversations that is recorded, from 0 to 1. A conversation is recorded whole or not
            at all. Default: `1.0`. Environment: `CONVERRA_SAMPLE_RATE`.
        console: `true`: turns are printed on standard error as they are captured, in colour on a terminal. Needs no
            key. Default: `false`. Environment: `CONVERRA_CONSOLE`.
        handle_sigterm: `true`: on SIGTERM pending messages are sent within `shutdown_timeout`, then the process dies of
            the signal as before. Only if SIGTERM has no other handler; else a warning says what to do. The known
            servers deliver without it. Default: `false`. Environment: `CONVERRA_HANDLE_SIGTERM`.
        otel: `true`: GenAI spans of this process become turns as well (extra `otel`). A call that is captured directly
            and also makes a span is recorded once. Default: `false`. Environment: `CONVERRA_OTEL`.

    Returns:
        A report of what is patched, what waits for its import and what was skipped; it can be printed.

    Raises:
        InvalidArgumentError: A setting, as an argument or in the environment, can never work.

    Example::

        converra.instrument("prompt_123", redact=lambda message: message | {"content": mask(message["content"])})

    """
    arguments = {
        "prompt_id": prompt_id,
        "api_key": api_key,
        "base_url": base_url,
        "enabled": enabled,
        "outbox": outbox,
        "relay": relay,
        "integrations": integrations,
        "flush_interval": flush_interval,
        "idle_timeout": idle_timeout,
        "timeout": timeout,
        "shutdown_timeout": shutdown_timeout,
        "max_pending_bytes": max_pending_bytes,
        "redact": redact,
        "capture_content": capture_content,
        "sample_rate": sample_rate,
        "console": console,
        "handle_sigterm": handle_sigterm,
        "otel": otel,
    }
    made = _made(arguments)
    report = made.instrument()
    if made.config.otel and made.config.enabled:
        from converra.spans.provider import WATCHING  # noqa: PLC0415 - most apps never need it

        report.rows.extend(WATCHING.start(bridge, made.capture))
    else:
        _read_no_spans()
    return report


def uninstrument() -> None:
    """Restore every patched original. Messages that were captured are still delivered."""
    _uninstrument(_recorder)
    _read_no_spans()


def _read_no_spans() -> None:
    """Undo the setting `otel`, if it was on. A processor that the app has added stays on."""
    provider = sys.modules.get("converra.spans.provider")
    if provider is not None:
        provider.WATCHING.stop()


def conversation(
    prompt_id: str,
    *,
    session_id: str | None = None,
    user_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    company_name: str | None = None,
    keep_open: bool = False,
) -> Conversation:
    """Record the model calls inside as one conversation: `with`, `async with`, or a decorator.

    Args:
        prompt_id: The prompt that the conversation belongs to: 1 to 512 printable characters.
        session_id: An id of the same kind under which other processes, on any host, join the conversation.
        user_id: Your id of the user whose conversation it is, of the same kind. It becomes `metadata.userId`.
        metadata: A mapping that the conversation is opened with (API document, "Create Conversation").
        company_name: The customer that the conversation belongs to.
        keep_open: Don't complete the conversation when the block is left: the next block with the same ids continues
            it. Needs a `session_id`. `converra.complete()` ends it.

    Returns:
        The conversation: the object that `as` binds. Nothing is sent before something is recorded in it.

    Raises:
        InvalidArgumentError: An argument can never work, such as an empty prompt id.

    Example::

        with converra.conversation("prompt_123", session_id="chat-7") as conversation:
            client.chat.completions.create(model="gpt-4o", messages=messages)
            conversation.update_metadata(resolved=True)

    """
    return recorder().conversation(
        prompt_id,
        session_id=session_id,
        user_id=user_id,
        metadata=metadata,
        company_name=company_name,
        keep_open=keep_open,
    )


def current_conversation() -> Conversation | None:
    """Return the conversation that is active in this context, or None."""
    return None if _recorder is None else _recorder.current_conversation()


def complete(prompt_id: str, session_id: str) -> None:
    """Complete a session that was kept open, also one that another process has opened.

    Args:
        prompt_id: The prompt id that it was opened with.
        session_id: The session id that it was opened with.

    Raises:
        InvalidArgumentError: An id can never work, such as an empty one.

    """
    recorder().complete(prompt_id, session_id)


def flush(timeout: float | None = None, *, delivered: bool = False) -> bool:
    """Send everything that waits.

    Args:
        timeout: Seconds that it may take at most; by default 30.
        delivered: With a Redis outbox: wait for the API as well, not for Redis alone.

    Returns:
        True only if everything was delivered in time; with a Redis outbox, if Redis has everything.

    """
    return True if _recorder is None else _recorder.flush(timeout, delivered=delivered)


def shutdown(timeout: float | None = None) -> bool:
    """Complete what is open, send everything and stop.

    Args:
        timeout: Seconds that it may take at most; by default the setting `shutdown_timeout`.

    Returns:
        True only if everything was delivered in time.

    """
    return True if _recorder is None else _recorder.shutdown(timeout)


def stats() -> Stats:
    """Count the captured messages by what has become of them."""
    return recorder().stats()
