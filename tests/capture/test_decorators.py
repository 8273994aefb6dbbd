"""A function in a block, whatever its kind: it behaves as before, and the block is active exactly while it runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Self

import pytest

from converra.capture.decorators import decorated
from converra.process import context
from converra.process.context import Entered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from types import TracebackType


class Block:
    """Notes how it ended."""

    made: list[Block]

    def __init__(self) -> None:
        self.ends: list[str | None] = []
        self.entered: list[Entered] = []
        self.made.append(self)

    def __enter__(self) -> Self:
        self.entered.append(Entered(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.entered:
            self.entered.pop().leave()
        self.ends.append(kind.__name__ if kind else None)


@pytest.fixture(autouse=True)
def made() -> list[Block]:
    """The blocks of this test, in the order of the calls."""
    Block.made = []
    return Block.made


def in_block(function: Any) -> Any:
    return decorated(function, Block)


def ends(blocks: list[Block]) -> list[list[str | None]]:
    return [block.ends for block in blocks]


# -- functions ---------------------------------------------------------------------------------------------------------


def test_a_function(made: list[Block]) -> None:
    """Each call runs in a block of its own and gives what it gave before."""

    @in_block
    def double(n: int) -> tuple[int, object]:
        return 2 * n, context.active()

    assert double(1) == (2, made[0])
    assert double(n=2) == (4, made[1])
    assert ends(made) == [[None], [None]]
    assert context.active() is None


def test_a_function_that_raises(made: list[Block]) -> None:
    """The exception is the same object, and the block knows of it."""
    error = KeyError("x")

    @in_block
    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        fail()
    assert caught.value is error
    assert ends(made) == [["KeyError"]]


def test_recursion(made: list[Block]) -> None:
    """A call inside a call is a block inside a block."""

    @in_block
    def depth(n: int) -> list[object]:
        return [context.active(), *(depth(n - 1) if n else []), context.active()]

    assert depth(2) == [made[0], made[1], made[2], made[2], made[1], made[0]]


def test_it_still_looks_like_itself() -> None:
    """Name, signature, kind and docstring are those of the function."""

    def plain(a: int, *, b: str = "x") -> None:
        """What it does."""

    async def coroutine() -> None: ...

    def generator() -> Generator[int, None, None]:
        yield 1

    async def async_generator() -> AsyncGenerator[int, None]:
        yield 1

    kinds: list[Callable[[Any], bool]] = [
        inspect.isfunction,
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    ]
    for function in (plain, coroutine, generator, async_generator):
        wrapper = in_block(function)
        assert [kind(wrapper) for kind in kinds] == [kind(function) for kind in kinds]
        assert inspect.signature(wrapper) == inspect.signature(function)
        assert (wrapper.__name__, wrapper.__doc__) == (function.__name__, function.__doc__)


def test_methods_and_partials(made: list[Block]) -> None:
    """What is called with more than it shows is called so."""

    class Agent:
        @in_block
        def answer(self, n: int) -> tuple[Agent, int]:
            return self, n

    agent = Agent()
    assert agent.answer(1) == (agent, 1)
    assert decorated(functools.partial(agent.answer, 2), Block)() == (agent, 2)
    assert ends(made) == [[None], [None], [None]]


# -- coroutines --------------------------------------------------------------------------------------------------------


def test_coroutines_side_by_side(made: list[Block]) -> None:
    """Many at once each stay in their own block, and calling alone starts none."""

    @in_block
    async def wait(n: int) -> tuple[int, object]:
        await asyncio.sleep(0)
        return n, context.active()

    async def run() -> list[tuple[int, object]]:
        waiting = [wait(n) for n in range(50)]
        assert made == []
        return list(await asyncio.gather(*waiting))

    assert asyncio.run(run()) == list(enumerate(made))
    assert ends(made) == [[None]] * 50


def test_a_coroutine_that_is_cancelled(made: list[Block]) -> None:
    """A cancellation passes, and the block knows of it."""

    @in_block
    async def wait() -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert ends(made) == [["CancelledError"]]


# -- generators --------------------------------------------------------------------------------------------------------


@in_block
def talk(n: int) -> Generator[Any, Any, str]:
    """Yields what is active and what it is sent; an error that is thrown in is yielded by name."""
    heard: Any = None
    for _ in range(n):
        try:
            heard = yield context.active(), heard
        except ValueError as error:
            heard = type(error).__name__
    return "done"


def test_a_generator(made: list[Block]) -> None:
    """The block lasts from the first step to the last and is not active in between."""
    steps = talk(2)
    assert made == []
    assert next(steps) == (made[0], None)
    assert context.active() is None
    assert ends(made) == [[]]
    assert list(steps) == [(made[0], None)]
    assert ends(made) == [[None]]


def test_what_a_consumer_says_to_a_generator(made: list[Block]) -> None:
    """`send`, `throw`, the value returned and `yield from` work as they did."""

    def outer() -> Generator[Any, Any, str]:
        result = yield from talk(4)
        return f"outer {result}"

    steps = outer()
    assert next(steps)[1] is None
    assert steps.send("hello")[1] == "hello"
    assert steps.throw(ValueError("x"))[1] == "ValueError"
    assert steps.send(7)[1] == 7
    with pytest.raises(StopIteration) as stop:
        steps.send("last")
    assert stop.value.value == "outer done"
    assert ends(made) == [[None]]


def test_a_generator_that_raises(made: list[Block]) -> None:
    """An exception of its own and one that is thrown in and not caught end the block, and are the same objects."""
    error = KeyError("own")

    @in_block
    def fail() -> Generator[int, None, None]:
        yield 1
        raise error

    steps = fail()
    next(steps)
    with pytest.raises(KeyError) as caught:
        next(steps)
    assert caught.value is error
    thrown, steps = TypeError("thrown"), talk(3)
    next(steps)
    with pytest.raises(TypeError) as also:
        steps.throw(thrown)
    assert also.value is thrown
    assert ends(made) == [["KeyError"], ["TypeError"]]
    assert list(steps) == []


def test_a_generator_that_is_closed_early(made: list[Block]) -> None:
    """Whoever stops reading ends it: its `finally` runs inside the block, which then ends."""
    seen: list[object] = []

    @in_block
    def stream() -> Generator[int, None, None]:
        try:
            yield 1
            yield 2
        finally:
            seen.append(context.active())

    for _ in stream():
        break
    closed = stream()
    next(closed)
    closed.close()
    dropped = stream()
    next(dropped)
    del dropped
    gc.collect()
    assert seen == made
    assert ends(made) == [["GeneratorExit"]] * 3
    unread = stream()
    unread.close()
    assert len(made) == 3


def test_a_generator_that_does_not_let_itself_be_closed() -> None:
    """Yielding on the way out is the RuntimeError that it always was."""

    @in_block
    def stubborn() -> Generator[int, None, None]:
        with suppress(GeneratorExit):
            yield 1
        yield 2

    steps = stubborn()
    next(steps)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        steps.close()


def test_a_generator_whose_steps_run_anywhere(made: list[Block]) -> None:
    """Steps in other threads and contexts each see the block, and leave nothing behind there."""
    steps = talk(3)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, steps).result()
        second = contextvars.Context().run(next, steps)
        assert pool.submit(context.active).result() is None
    assert [first, second, next(steps)] == [(made[0], None)] * 3
    assert context.active() is None


def test_generators_that_take_turns(made: list[Block]) -> None:
    """Two that are read by turns, and one inside a block, do not mix."""
    with Block() as outer:
        pairs = list(zip(talk(2), talk(2), strict=True))
        assert context.active() is outer
    assert [(a, b) for (a, _), (b, _) in pairs] == [(made[1], made[2])] * 2
    assert context.active() is None


# -- asynchronous generators -------------------------------------------------------------------------------------------


@in_block
async def atalk(n: int) -> AsyncGenerator[Any, Any]:
    """As `talk`."""
    heard: Any = None
    for _ in range(n):
        try:
            await asyncio.sleep(0)
            heard = yield context.active(), heard
        except ValueError as error:
            heard = type(error).__name__


def test_an_async_generator(made: list[Block]) -> None:
    """The block lasts from the first step to the last and is not active in between."""

    async def run() -> list[Any]:
        return [(step, context.active()) async for step in atalk(2)]

    assert asyncio.run(run()) == [((made[0], None), None)] * 2
    assert ends(made) == [[None]]


def test_what_a_consumer_says_to_an_async_generator(made: list[Block]) -> None:
    """`asend` and `athrow` work as they did."""

    async def run() -> list[Any]:
        steps = atalk(3)
        found = [await anext(steps), await steps.asend("hello"), await steps.athrow(ValueError("x"))]
        with pytest.raises(StopAsyncIteration):
            await anext(steps)
        return [heard for _, heard in found]

    assert asyncio.run(run()) == [None, "hello", "ValueError"]
    assert ends(made) == [[None]]


def test_an_async_generator_that_is_closed_early(made: list[Block], caplog: pytest.LogCaptureFixture) -> None:
    """Closed by hand, by `aclosing` or when the loop ends: its `finally` runs inside the block, which then ends."""
    seen: list[object] = []

    @in_block
    async def stream() -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            seen.append(context.active())
            await asyncio.sleep(0)
            seen.append(context.active())

    async def run() -> Any:
        async with aclosing(stream()) as steps:
            await anext(steps)
        by_hand = stream()
        await anext(by_hand)
        await by_hand.aclose()
        left_open = stream()
        await anext(left_open)
        return left_open

    asyncio.run(run())
    assert seen == [block for block in made for _ in range(2)]
    assert ends(made) == [["GeneratorExit"]] * 3
    assert caplog.messages == []


def test_an_async_generator_that_fails(made: list[Block]) -> None:
    """Its own exception, one that is thrown in, and a cancellation of its consumer end the block."""
    error = KeyError("own")

    @in_block
    async def fail(*, slow: bool) -> AsyncGenerator[int, None]:
        yield 1
        if slow:
            await asyncio.sleep(60)
        raise error

    async def read(steps: AsyncGenerator[Any, Any]) -> None:
        async for _ in steps:
            pass

    async def run() -> None:
        with pytest.raises(KeyError) as caught:
            await read(fail(slow=False))
        assert caught.value is error
        steps = atalk(2)
        await anext(steps)
        with pytest.raises(TypeError):
            await steps.athrow(TypeError())
        task = asyncio.create_task(read(fail(slow=True)))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert ends(made) == [["KeyError"], ["TypeError"], ["CancelledError"]]


def test_async_generators_side_by_side(made: list[Block]) -> None:
    """Each step in a task of its own, many streams at once: each sees its own block."""

    async def read(steps: AsyncGenerator[Any, Any]) -> set[object]:
        found = set()
        for _ in range(3):
            found.add((await asyncio.create_task(anext(steps)))[0])
        await steps.aclose()
        return found

    async def run() -> list[set[object]]:
        return await asyncio.gather(*(read(atalk(5)) for _ in range(30)))

    found = asyncio.run(run())
    assert sorted(map(len, found)) == [1] * 30
    assert set().union(*found) == set(made)
    assert ends(made) == [["GeneratorExit"]] * 30
