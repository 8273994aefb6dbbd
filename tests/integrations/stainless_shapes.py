"""Uses of results as clients after openai's have them: raw responses with methods, some of which are coroutines."""

from __future__ import annotations

import inspect
from typing import Any

from tests.integrations.openai_shapes import ASYNC, SYNC, view


async def _now(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def _raw(raw: Any) -> Any:
    text = raw.text() if callable(raw.text) else raw.text
    return type(raw), raw.status_code, raw.headers["content-type"], await _now(text), view(await _now(raw.parse()))


async def _raw_chunks(raw: Any) -> Any:
    stream = await _now(raw.parse())
    return type(stream), [view(chunk) async for chunk in stream]


def _raw_sync(raw: Any) -> Any:
    text = raw.text() if callable(raw.text) else raw.text
    return type(raw), raw.status_code, raw.headers["content-type"], text, view(raw.parse())


SYNC_USES = {**SYNC, "raw": _raw_sync}
ASYNC_USES = {**ASYNC, "raw": _raw, "raw-read": _raw_chunks}
