"""Which scope is active where: blocks, threads, tasks, and contexts that were copied or crossed."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from converra.history.turn import Origin, Run, Scope, Trace
from converra.process import context
from converra.process.context import Entered

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import pytest


def test_nothing_is_active_at_first() -> None:
    """Outside of every block there is no conversation."""
    assert context.active() is None


def test_blocks_nest() -> None:
    """The innermost block is active, and leaving it makes the outer one active again."""
    outer = Entered("outer")
    assert context.active() == "outer"
    inner = Entered("inner")
    assert context.active() == "inner"
    inner.leave(for_good=True)
    assert context.active() == "outer"
    outer.leave(for_good=True)
    assert context.active() is None


def test_blocks_that_are_left_in_the_wrong_order() -> None:
    """A block that was left is not active again when what was entered inside of it is left later."""
    outer, inner = Entered("outer"), Entered("inner")
    outer.leave()
    assert context.active() == "inner"
    inner.leave()
    assert context.active() is None


def test_the_same_scope_twice() -> None:
    """A scope that is entered again inside of itself is active until it is left as often."""
    first, second = Entered("same"), Entered("same")
    second.leave(for_good=True)
    assert context.active() == "same"
    first.leave(for_good=True)
    assert context.active() is None


def test_a_block_that_is_left_in_another_context() -> None:
    """Leaving in a context that never saw the entry raises nothing, and is believed in the first one too."""
    entered = Entered("streamed")
    contextvars.Context().run(entered.leave)
    assert context.active() is None
    later = Entered("later")
    assert later.before is None
    later.leave()
    assert context.active() is None


def test_a_block_that_is_left_in_a_copy_of_its_context() -> None:
    """What is left for good in a copied context is left where it was entered as well."""
    entered = Entered("streamed")
    contextvars.copy_context().run(entered.leave, for_good=True)
    assert context.active() is None
    entered = Entered("kept open")
    contextvars.copy_context().run(entered.leave)
    assert context.active() == "kept open"
    entered.leave()


def test_leaving_twice_changes_nothing() -> None:
    """A finalizer may leave what was left already."""
    outer, inner = Entered("outer"), Entered("inner")
    inner.leave(for_good=True)
    inner.leave(for_good=True)
    assert context.active() == "outer"
    outer.leave()
    outer.leave()
    assert context.active() is None


def test_threads_begin_with_nothing() -> None:
    """A plain thread knows no block; one that runs in a copied context does, and leaves no trace in others."""
    entered, seen = Entered("block"), []
    copied = contextvars.copy_context()

    def enter() -> None:
        Entered("inside the thread")
        seen.append(context.active())

    for work in (lambda: seen.append(context.active()), lambda: copied.run(enter)):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [None, "inside the thread"]
    assert context.active() == "block"
    entered.leave()


def test_tasks_keep_what_they_were_started_in() -> None:
    """A hundred tasks at once see their own blocks; what outlives a block stays in it if that is kept open."""

    async def task(n: int) -> list[object]:
        entered = Entered(n)
        await asyncio.sleep(0)
        inside = context.active()
        child = asyncio.create_task(late())
        entered.leave(for_good=n % 2 == 1)
        return [inside, context.active(), await child]

    async def late() -> object:
        await asyncio.sleep(0.001)
        return context.active()

    async def run() -> list[list[object]]:
        return await asyncio.gather(*map(task, range(100)))

    expected = [[n, None, None if n % 2 else n] for n in range(100)]
    assert asyncio.run(run()) == expected


def test_a_generator_read_elsewhere() -> None:
    """A block inside a generator whose steps run in different threads ends without an error and without a trace."""

    def stream() -> Iterator[object]:
        entered = Entered("stream")
        yield context.active()
        yield context.active()
        entered.leave(for_good=True)
        yield context.active()

    steps = stream()
    with ThreadPoolExecutor(1) as pool:
        assert [next(steps), pool.submit(next, steps).result(), next(steps)] == ["stream", None, None]
    assert context.active() is None


def test_an_async_generator_read_by_other_tasks() -> None:
    """As with streamed responses: each step in a task of its own, left in the last."""

    async def stream() -> AsyncIterator[object]:
        entered = Entered("stream")
        yield context.active()
        entered.leave()
        yield context.active()

    async def run() -> list[object]:
        steps = stream()
        return [await asyncio.create_task(anext(steps)) for _ in range(2)] + [context.active()]  # type: ignore[arg-type]  # a coroutine

    assert asyncio.run(run()) == ["stream", None, None]


class Covering:
    """A layer that records the calls of one model."""

    def __init__(self, model: str | None) -> None:
        self.model = model
        self.asked: list[str | None] = []

    def covers(self, model: str | None) -> bool:
        self.asked.append(model)
        return model == self.model


def test_a_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a layer says that it covers is claimed, in every context; a layer that joins twice is asked once."""
    monkeypatch.setattr(context, "layers", ())
    before = context.claimed("gpt")
    layer = Covering("gpt")
    context.join(layer)
    context.join(layer)
    copied = contextvars.copy_context().run(context.claimed, "gpt")
    assert [before, context.claimed("gpt"), context.claimed("other"), copied] == [False, True, False, True]
    assert layer.asked == ["gpt", "gpt", "other"]


def test_runs_of_frameworks(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Each framework is asked once, a run with a session comes before one without, and a reader that fails is none."""
    scopes: list[Scope | None] = [None, Scope(trace=Trace()), Scope(thread="t")]
    asked: list[int] = []

    def reader(number: int) -> Callable[[], Scope | None]:
        def read() -> Scope | None:
            asked.append(number)
            return scopes[number]

        return read

    def broken() -> Scope | None:
        raise RuntimeError

    monkeypatch.setattr(context, "readers", ())
    assert context.surrounding() is None
    readers = [reader(number) for number in range(3)]
    for read in (broken, *readers, readers[2]):
        context.read_runs(read)
    assert context.surrounding() is scopes[2]
    assert asked == [0, 1, 2]
    assert "reading the session of a framework's run: RuntimeError" in caplog.text
    scopes[2] = None
    assert context.surrounding() is scopes[1]


def test_nested_runs_of_frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that the app chose precedes one that was made up; an agent is known whichever framework names it."""
    outer, inner = Run("outer", "1"), Run("inner", "2")
    scopes: list[Scope | None] = []
    monkeypatch.setattr(context, "readers", ())

    def last() -> Scope | None:
        return scopes[1]

    def first() -> Scope | None:
        return scopes[0]

    context.read_runs(last)
    context.read_runs(first, first=True)

    def found(*nested: Scope | None) -> Scope | None:
        scopes[:] = nested
        return context.surrounding()

    made_up = Scope("made up", run=inner, invented=True)
    assert found(made_up, None) == made_up
    assert found(made_up, Scope("given")) == Scope("given", run=inner)
    assert found(made_up, Scope("given", run=outer)) == Scope("given", run=outer)
    assert found(Scope("given"), Scope("other", run=outer)) == Scope("given", run=outer)
    assert found(Scope(run=inner), made_up) == made_up
    assert found(Scope(run=inner), Scope(origin=Origin("p", "of the handler"))).session == "of the handler"  # type: ignore[union-attr]
    assert found(None, None) is None
    context.forget_runs(first)
    assert found(made_up, None) is None
    context.forget_runs(last)
    assert context.readers == ()
