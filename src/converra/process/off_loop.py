"""Runs blocking work beside an event loop."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


async def run_off_loop(work: Callable[[], object]) -> None:
    """Run `work` in a thread of its own, under asyncio or trio, and wait for it without blocking the event loop.

    The loop's default executor is the app's: its threads may all be busy when the server stops.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # not under asyncio
        await sys.modules["trio"].to_thread.run_sync(work)
        return
    pool = ThreadPoolExecutor(1, thread_name_prefix="converra")
    try:
        await loop.run_in_executor(pool, work)
    finally:
        pool.shutdown(wait=False)
