"""What any integration must pass: the app sees and sends what it would without us, and each call is one turn.

A test module names its subject and inherits the promises::

    class TestOpenAI(Conformance):
        subject = Subject(INTEGRATION, functions, shapes, serve)
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pytest

from converra.integrations import patching
from converra.process import guard
from tests.integrations.recording import RecordingCapture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from converra.integrations import Integration
    from tests.integrations.scripted import ScriptedModel


class Shape(NamedTuple):
    """One way in which an app calls the library. `run` returns all that the app can see of it, comparable with `==`."""

    name: str
    run: Callable[[ScriptedModel], Any]
    turns: int = 1
    twin: str | None = None
    """The shape that does the same with the other client, sync or async."""


def combined(shapes: Iterable[Shape]) -> tuple[Shape, Shape]:
    """All shapes as two: those without a twin one after the other, and those with one. That makes far fewer tests."""
    given = tuple(shapes)
    plain, twins = [s for s in given if s.twin is None], [s for s in given if s.twin is not None]
    return _one("sync", plain), _one("async", twins)._replace(twin="sync")


def _one(name: str, shapes: list[Shape]) -> Shape:
    def run(model: ScriptedModel) -> Any:
        return {shape.name.removeprefix("async-"): shape.run(model) for shape in shapes}

    return Shape(name, run, sum(shape.turns for shape in shapes))


class Subject(NamedTuple):
    """An integration to be judged."""

    integration: Integration
    functions: Callable[[], list[tuple[Any, str]]]
    """Owner and name of each function that it patches."""
    shapes: tuple[Shape, ...]
    serve: Callable[[], contextlib.AbstractContextManager[ScriptedModel]]
    sample: Shape | None = None
    """Stands for all shapes where any will do; by default the first."""

    def shape(self, name: str) -> Shape:
        """The shape of that name."""
        return next(shape for shape in self.shapes if shape.name == name)


def make_models_once(serializers: str) -> None:
    """Keep the pydantic models that a client made by Speakeasy makes anew for every body: a third of what it costs."""
    module: Any = importlib.import_module(serializers)
    make, made = module.create_model, {}

    def create_model(name: str, *, body: Any, **more: Any) -> Any:
        key = name, body, repr(body)  # a union equals the one in another order
        if key not in made:
            made[key] = make(name, body=body, **more)
        return made[key]

    module.create_model = create_model


def raised(error: BaseException) -> Any:
    """An exception as plain data, with what it came from."""
    origins = (error.__cause__, error.__context__)
    return type(error), str(error), *[type(origin) for origin in origins], error.__suppress_context__


class FailingCapture(RecordingCapture):
    """A capture with a bug: what it is asked to do raises."""

    def __init__(self, methods: list[str]) -> None:
        super().__init__()
        self._methods = methods

    def begin(self, request: Any) -> Any:
        call = super().begin(request)
        if "begin" in self._methods:
            raise ZeroDivisionError
        for method in self._methods:
            setattr(call, method, _fail)
        return call


def _fail(*args: Any, **kwargs: Any) -> Any:
    raise ZeroDivisionError


class Conformance:
    """The promises. `subject` is set by the test module."""

    subject: Subject
    unobserved: ClassVar[dict[str, tuple[Any, list[Any]]]]
    recorded: ClassVar[dict[str, list[dict[str, Any]]]]

    def __init_subclass__(cls) -> None:
        cls.unobserved, cls.recorded = {}, {}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each shape of the subject."""
        if "shape" in metafunc.fixturenames:
            twins = metafunc.function.__name__ == "test_sync_and_async_are_captured_alike"
            shapes = [shape for shape in self.subject.shapes if shape.twin or not twins]
            metafunc.parametrize("shape", shapes, ids=[shape.name for shape in shapes])

    @pytest.fixture(scope="class")
    @classmethod
    def model(cls) -> Iterator[ScriptedModel]:
        cls.unobserved.clear()  # it names the address of the server before
        cls.recorded.clear()
        with cls.subject.serve() as served:
            yield served

    @pytest.fixture(autouse=True)
    def off_afterwards(self) -> Iterator[None]:
        yield
        patching.switch_off(self.subject.integration)

    @contextlib.contextmanager
    def on(self, capture: RecordingCapture | None = None) -> Iterator[RecordingCapture]:
        """The integration, switched on."""
        capture = capture or RecordingCapture()
        patching.switch_on(self.subject.integration, capture)
        try:
            yield capture
        finally:
            patching.switch_off(self.subject.integration)

    def plain(self, shape: Shape, model: ScriptedModel) -> tuple[Any, list[Any]]:
        """What is seen without us, which is the same every time."""
        if shape.name not in self.unobserved:
            self.unobserved[shape.name] = self.seen(shape, model)
        return self.unobserved[shape.name]

    def seen(self, shape: Shape, model: ScriptedModel) -> tuple[Any, list[Any]]:
        """What the app saw and what the provider received."""
        before = len(model.received)
        outcome = shape.run(model)
        return outcome, model.received[before:]

    def captured(self, shape: Shape, model: ScriptedModel) -> list[dict[str, Any]]:
        """What is recorded of a shape, which is the same every time."""
        if shape.name not in self.recorded:
            with self.on() as capture:
                shape.run(model)
                capture.settle()
            self.recorded[shape.name] = capture.facts()
        return self.recorded[shape.name]

    def test_a_call_is_one_turn_and_the_app_sees_and_sends_the_same(
        self, shape: Shape, model: ScriptedModel, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Requests byte for byte, results, chunks, exceptions: all as without us; each call is recorded once."""
        plain, before = self.plain(shape, model), guard.caught()
        with self.on() as capture, caplog.at_level(logging.INFO, "converra"):
            captured = self.seen(shape, model)
            capture.settle()
        assert captured == plain
        assert [call.ends for call in capture.calls] == [1] * shape.turns
        assert guard.caught() == before
        assert not [record for record in caplog.records if record.name.startswith("converra")]
        self.recorded[shape.name] = capture.facts()

    def test_sync_and_async_are_captured_alike(self, shape: Shape, model: ScriptedModel) -> None:
        """The async client's turn is that of the sync one."""
        assert self.captured(self.subject.shape(shape.twin or ""), model) == self.captured(shape, model)

    def test_a_call_that_is_not_wanted_and_a_bug_of_ours_change_nothing(
        self, shape: Shape, model: ScriptedModel
    ) -> None:
        """A call that belongs to no conversation is not even looked at; whatever fails of ours, the app goes on."""
        plain, declining = self.plain(shape, model), RecordingCapture()
        declining.wanted = False
        with self.on(declining):
            assert self.seen(shape, model) == plain, "declined"
        assert declining.calls == []
        for methods in (["begin"], ["end", "fail", "first_token"], ["streaming"]):
            with self.on(FailingCapture(methods)) as failing:
                assert self.seen(shape, model) == plain, f"failing: {methods}"
            if "end" in methods and not any(call.so_far for call in failing.calls):
                break  # without a stream, `streaming` is never called
        guard.reset_log_limits()

    def test_a_wrapped_function_looks_like_the_original(self) -> None:
        """Name, signature, documentation, and whether it is a coroutine function: all as before."""
        plain = [_fingerprints(getattr(owner, name)) for owner, name in self.subject.functions()]
        with self.on():
            assert [_fingerprints(getattr(owner, name)) for owner, name in self.subject.functions()] == plain

    def test_undoing_restores_every_original(self) -> None:
        """After switching off, each function is the very object that it was."""
        before = [_static(owner, name) for owner, name in self.subject.functions()]
        with self.on():
            during = [_static(owner, name) for owner, name in self.subject.functions()]
        after = [_static(owner, name) for owner, name in self.subject.functions()]
        assert all(a[0] is b[0] and a[1] == b[1] for a, b in zip(before, after, strict=True))
        assert all(a[0] is not b[0] for a, b in zip(before, during, strict=True))

    def test_switching_on_again_changes_nothing(self, model: ScriptedModel) -> None:
        """Switched on three times, a call is still one turn."""
        shape = self.subject.sample or self.subject.shapes[0]
        with self.on() as capture, self.on(capture):
            patching.switch_on(self.subject.integration, capture)
            shape.run(model)
        assert len(capture.calls) == shape.turns

    def test_switched_off_nothing_is_captured(self, model: ScriptedModel) -> None:
        """After switching off, and while the capture is not active, calls pass by."""
        shape = self.subject.sample or self.subject.shapes[0]
        with self.on() as capture:
            capture.active = False
            shape.run(model)
        shape.run(model)
        assert capture.calls == []


def _fingerprints(function: Any) -> tuple[Any, ...]:
    names = ("__name__", "__qualname__", "__module__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__")
    return (
        inspect.signature(function),
        inspect.iscoroutinefunction(function),
        inspect.isfunction(function),
        *[getattr(function, name) for name in names],
    )


def _static(owner: Any, name: str) -> tuple[Any, bool]:
    return inspect.getattr_static(owner, name), name in vars(owner)
