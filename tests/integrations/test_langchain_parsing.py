"""Structured answers that do not parse: the answer was given and billed, and is recorded once with its error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pydantic
import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda

import converra
from converra.langchain import ConverraCallbackHandler
from converra.testing.capture import Capture
from converra.testing.swap import in_memory, swapped
from tests.integrations.langchain_app import App, running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Run = Callable[[Any, str], Awaitable[Any]]

WRONG = '[[say:{"b": 1}]]'
USAGE = {"promptTokens": 16, "completionTokens": 7}
ERROR = {"error": {"type": "ValidationError"}}


class Wanted(pydantic.BaseModel):
    """What the model is asked for, and does not give."""

    a: int


@pytest.fixture
def app() -> Iterator[App]:
    """An app in which LangChain and the client are captured."""
    with running(prompt_id="prompt") as running_app:
        yield running_app


async def invoke(runnable: Any, text: str) -> Any:
    return runnable.invoke(text)


async def stream(runnable: Any, text: str) -> Any:
    return list(runnable.stream(text))


async def batch(runnable: Any, text: str) -> Any:
    return runnable.batch([text])


async def ainvoke(runnable: Any, text: str) -> Any:
    return await runnable.ainvoke(text)


async def astream(runnable: Any, text: str) -> Any:
    return [chunk async for chunk in runnable.astream(text)]


WHOLE: list[Run] = [invoke, batch, ainvoke]
STREAMED: list[Run] = [stream, astream]


def answered(app: App, run: Run, make: Callable[[App], Any], text: str = WRONG, raises: str | None = ".") -> Any:
    """The facts of the only answer, which the app does not get."""

    async def main(app: App) -> None:
        with contextlib.ExitStack() as stack:
            if raises is not None:
                stack.enter_context(pytest.raises(Exception, match=raises))
            await run(make(app), text)

    app.run(main)
    assert app.asked() == 1
    asked, (role, words, facts) = app.messages()
    assert asked == ("user", text)
    facts["metadata"] = {k: v for k, v in facts.get("metadata", {}).items() if k != "timeToFirstTokenMs"}
    return role, words, facts["model"], facts.get("usage"), facts["metadata"]


@pytest.mark.parametrize("run", [*WHOLE, *STREAMED])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("settings", [{}, {"strict": True}, {"include_raw": True}])
def test_json_schema(settings: dict[str, Any], api: str, run: Run, app: App) -> None:
    """The SDK parses while the call is under way and raises into it; the answer is recorded all the same.

    The usage of a streamed chat answer comes after the chunk that does not parse, and nobody reads it.
    """

    def make(app: App) -> Any:
        model = app.model(use_responses_api=api == "responses", stream_usage=True)
        return model.with_structured_output(Wanted, method="json_schema", **settings)

    usage = None if api == "chat" and run in STREAMED else USAGE
    assert answered(app, run, make) == ("assistant", '{"b": 1}', "gpt-4o-stand-in", usage, ERROR)


@pytest.mark.parametrize("run", WHOLE)
def test_a_handler_by_hand(run: Run) -> None:
    """The handler sees the answer by itself, where no client is patched."""
    with running(instrumented=False) as bare:

        def make(app: App) -> Any:
            structured = app.model().with_structured_output(Wanted)
            return structured.with_config(callbacks=[ConverraCallbackHandler("prompt")])

        assert answered(bare, run, make) == ("assistant", '{"b": 1}', "gpt-4o-stand-in", USAGE, ERROR)


def test_no_json_at_all(app: App) -> None:
    """Words in the place of JSON are an answer as well."""
    found = answered(app, invoke, lambda app: app.model().with_structured_output(Wanted), "[[say:Sorry?]]")
    assert found[:3] == ("assistant", "Sorry?", "gpt-4o-stand-in")
    assert found[4] == ERROR


def test_an_answer_that_breaks_off(app: App) -> None:
    """A stream that breaks off in the middle of its JSON is partial."""
    found = answered(app, stream, lambda app: app.model().with_structured_output(Wanted), "[[words:9]] [[cut:3]]")
    assert found[4]["partial"] is True


BY_CALL = '[[tool:Wanted {"b": 1}]]'
PARSERS: dict[str, tuple[Callable[[App], Any], str, str]] = {
    "function_calling": (
        lambda app: app.model().with_structured_output(Wanted, method="function_calling"),
        BY_CALL,
        "ValidationError",
    ),
    "function_calling, raw": (
        lambda app: app.model().with_structured_output(Wanted, method="function_calling", include_raw=True),
        BY_CALL,
        "ValidationError",
    ),
    "function_calling, strict, responses": (
        lambda app: app.model(use_responses_api=True).with_structured_output(
            Wanted, method="function_calling", strict=True
        ),
        BY_CALL,
        "ValidationError",
    ),
    "json_mode": (
        lambda app: app.model().with_structured_output(Wanted, method="json_mode"),
        WRONG,
        "OutputParserException",
    ),
    "PydanticOutputParser": (
        lambda app: app.model() | PydanticOutputParser(pydantic_object=Wanted),
        WRONG,
        "OutputParserException",
    ),
    "JsonOutputParser": (lambda app: app.model() | JsonOutputParser(), "[[say:Sorry?]]", "OutputParserException"),
    "JsonOutputParser, responses": (
        lambda app: app.model(use_responses_api=True) | JsonOutputParser(),
        "[[say:Sorry?]]",
        "OutputParserException",
    ),
}


@pytest.mark.parametrize("run", WHOLE)
@pytest.mark.parametrize("kind", PARSERS)
def test_parsers(kind: str, run: Run, app: App) -> None:
    """A parser of LangChain's that raises after the call is told of at the answer, with `include_raw` as well."""
    make, text, error = PARSERS[kind]
    role, _, model, usage, metadata = answered(app, run, make, text, None if "raw" in kind else ".")
    assert role == ("tool" if text == BY_CALL else "assistant")
    assert model == "gpt-4o-stand-in"
    assert usage is not None
    assert metadata == {"error": {"type": error}}


@pytest.mark.parametrize("run", WHOLE)
@pytest.mark.parametrize("kind", PARSERS)
@pytest.mark.parametrize("block", [False, True], ids=["implicit", "block"])
def test_parsers_after_the_answer_is_on_disk(block: bool, kind: str, run: Run, tmp_path: Path) -> None:
    """A durable outbox has taken in the answer when the parser raises: the error still reaches it."""
    make, text, error = PARSERS[kind]
    with running(prompt_id="prompt", outbox=str(tmp_path / "outbox.db")) as durable:
        with converra.conversation("prompt") if block else contextlib.nullcontext():
            found = answered(durable, run, make, text, None if "raw" in kind else ".")
        assert found[4] == {"error": {"type": error}}
        assert [status for status, _ in durable.conversations()] == ["completed" if block else "active"]


@pytest.mark.parametrize("block", [False, True], ids=["implicit", "block"])
def test_a_parser_s_error_in_a_test_of_the_app(block: bool) -> None:
    """The pytest plugin keeps messages as they come: the error reaches the answer there, too."""
    capture = Capture()
    with (
        running(instrumented=False) as app,
        swapped(in_memory(capture, prompt_id="prompt")),
        converra.conversation("prompt") if block else contextlib.nullcontext(),
        pytest.raises(OutputParserException),
    ):
        (app.model() | JsonOutputParser()).invoke("[[say:Sorry?]]")
    metadata = capture.only().messages[-1].metadata
    assert metadata is not None
    assert metadata["error"] == {"type": "OutputParserException"}
    assert capture.only().metadata == {}


@pytest.mark.parametrize("strategy", ["ProviderStrategy", "ToolStrategy"])
@pytest.mark.parametrize("run", WHOLE[::2])
def test_an_agent_s_response_format(strategy: str, run: Run, app: App) -> None:
    """An agent whose answer does not have its `response_format` is told of at the answer."""
    agents = pytest.importorskip("langchain.agents")
    structured = pytest.importorskip("langchain.agents.structured_output")
    by_tool = strategy == "ToolStrategy"
    settings = {"handle_errors": False} if by_tool else {}

    def make(app: App) -> Any:
        wanted = getattr(structured, strategy)(Wanted, **settings)
        agent = agents.create_agent(app.model(), [], response_format=wanted)
        return RunnableLambda(lambda text: {"messages": [HumanMessage(text)]}) | agent

    found = answered(app, run, make, BY_CALL if by_tool else WRONG)
    assert found[2:] == (
        "gpt-4o-stand-in",
        {"promptTokens": 17, "completionTokens": 8} if by_tool else USAGE,
        {"error": {"type": "StructuredOutputValidationError"}},
    )


def test_a_step_that_fails_later(app: App) -> None:
    """What another step of the chain raises says nothing about the answer."""

    def broken(_: Any) -> Any:
        raise ValueError("broken")

    found = answered(app, invoke, lambda app: app.model() | RunnableLambda(broken))
    assert found[4] == {}


class Around(BaseChatModel):
    """A model that asks another one, and lets its errors through."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "around"

    def _generate(self, messages: Any, *args: Any, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])


def test_a_model_around_the_model(app: App) -> None:
    """The answer is the inner model's, once; the outer one has only its error."""
    with pytest.raises(pydantic.ValidationError):
        Around(inner=app.model().with_structured_output(Wanted)).invoke([HumanMessage(WRONG)])
    answers = [message for _, messages in app.conversations() for message in messages if message[0] == "assistant"]
    assert [answer[1] for answer in answers] == ['{"b": 1}']


def test_an_error_without_an_answer(app: App) -> None:
    """A call that the provider refuses has none, also after one that it answered."""
    model = app.model()
    model.invoke("[[say:1]]")
    with pytest.raises(Exception, match="500"):
        model.with_structured_output(Wanted).invoke("[[error:500]]")
    answers = [message for _, messages in app.conversations() for message in messages if message[0] == "assistant"]
    assert [message[1] for message in answers] == ["1"]
