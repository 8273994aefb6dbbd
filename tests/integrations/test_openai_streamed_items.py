"""Items of a streamed response of servers that imitate OpenAI: all of them, whatever numbers and names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from converra.integrations.openai.responses import RESPONSES
from tests.integrations import scripted
from tests.integrations.recording import bare
from tests.integrations.responses_scripts import REASONING, function_call, message, numbered, response
from tests.integrations.test_openai_responses import streamed, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integrations.recording import RecordingCapture
    from tests.integrations.scripted import Reply, ScriptedModel

OUTPUT = [
    REASONING,
    message("Let me look."),
    function_call(1, "get_weather", '{"city": "Graz"}'),
    function_call(2, "get_weather", '{"city": "Linz"}'),
    {**message("Well."), "id": "msg_2"},
]
ENDS: dict[str, Any] = {
    "null": {**response(), "output": None},
    "empty": response(),
    "one item of it": response(OUTPUT[-1]),
}


def events_of(item: dict[str, Any], index: int, *, by_turns: bool = False) -> list[dict[str, Any]]:
    """The events of one item, as OpenAI sends them."""
    place = {"item_id": item["id"], "output_index": index}
    begun = {**item, "status": "in_progress", **({"content": []} if item["type"] == "message" else {})}
    if item["type"] == "function_call":
        text, begun["arguments"] = item["arguments"], ""
        kind, field = "response.function_call_arguments", {"arguments": text}
    elif item["type"] == "message":
        text, place["content_index"] = item["content"][0]["text"], 0
        kind, field = "response.output_text", {"text": text}
    else:
        text, kind, field = "", "response.reasoning_summary_text", {"text": ""}
    halves = [text[: len(text) // 2], text[len(text) // 2 :]] if text else []
    return [
        {"type": "response.output_item.added", "output_index": index, "item": begun},
        *[{"type": f"{kind}.delta", **place, "delta": half} for half in halves],
        {"type": f"{kind}.done", **place, **field},
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def without(event: dict[str, Any], *, indexes: str, ids: str) -> dict[str, Any]:
    """The event as a server sends it that does not care about indexes or ids."""
    event = {**event}
    if indexes == "zero" and "output_index" in event:
        event["output_index"] = 0
    elif indexes != "right":
        event.pop("output_index", None)
    for holder, key in ((event, "item_id"), (event.get("item", {}), "id")):
        if ids == "missing":
            holder.pop(key, None)
        elif ids == "numbers" and key in holder:
            holder[key] = sum(map(ord, holder[key]))
        elif ids == "invented" and key in holder:
            holder[key] = f"{holder[key]}-{event['type']}-{event.get('delta')}"
    return event


def talk(output: list[dict[str, Any]], last: dict[str, Any] | None, kinds: str, **server: str) -> list[dict[str, Any]]:
    """A stream of these items; `kinds` are the events of an item that the server sends."""
    started = {"type": "response.created", "response": {**response(), "status": "in_progress", "output": []}}
    events = [event for n, item in enumerate(output) for event in events_of({**item}, n)]
    kept = [
        without({**event, **({"item": {**event["item"]}} if "item" in event else {})}, **server)
        for event in events
        if event["type"].endswith(tuple(kinds.split()))
    ]
    return numbered([started, *kept, *([{"type": "response.completed", "response": last}] if last else [])])


EVERYTHING = "added .delta .done"
SENT = ["added .delta _item.done", "_item.done", EVERYTHING, "added text.done arguments.done _item.done"]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kinds", SENT)
@pytest.mark.parametrize("ids", ["right", "missing", "numbers", "invented"])
@pytest.mark.parametrize("indexes", ["right", "zero", "missing"])
def test_items_that_are_not_in_the_last_event(indexes: str, ids: str, kinds: str, end: str) -> None:
    """Each item of the stream is there, once and in order, where the last event leaves the output out."""
    pieces = streamed(*talk(OUTPUT, ENDS[end], kinds, indexes=indexes, ids=ids))
    assert pieces.answer() == whole(response(*OUTPUT))


@pytest.mark.parametrize(
    "kinds", ["added .delta", "added .delta text.done arguments.done", "added text.done arguments.done"]
)
@pytest.mark.parametrize("ids", ["right", "missing", "numbers", "invented"])
@pytest.mark.parametrize("indexes", ["right", "zero", "missing"])
def test_items_that_are_never_finished(indexes: str, ids: str, kinds: str) -> None:
    """Items of which only the fragments came are what these make."""
    output = [message("Hello"), function_call(1, "get_weather", '{"city": "Graz"}')]
    (source,) = streamed(*talk(output, response(), kinds, indexes=indexes, ids=ids)).answer().messages
    assert bare(source) == {
        "role": "assistant",
        "text": "Hello",
        "calls": [{"id": "call_1", "name": "get_weather", "arguments": '{"city": "Graz"}'}],
    }


@settings(deadline=None)
@given(st.lists(st.sampled_from(OUTPUT[1:4]), min_size=1, max_size=4), st.data())
def test_items_by_turns(sent: list[dict[str, Any]], data: st.DataObject) -> None:
    """Items whose events are mixed are told apart by their indexes, or by their ids where all are numbered 0."""
    output = [{**item, "id": f"item_{n}"} for n, item in enumerate(sent)]
    server = data.draw(st.sampled_from([{"indexes": "right", "ids": "missing"}, {"indexes": "zero", "ids": "right"}]))
    waiting = [[without(e, **server) for e in events_of({**item}, n)] for n, item in enumerate(output)]
    order, mixed = list(range(len(waiting))), list[Any]()
    if server["indexes"] == "zero":  # the order of the output is that of the beginnings
        mixed.extend(events.pop(0) for events in waiting)
    while any(waiting):
        mixed.append(waiting[data.draw(st.sampled_from([n for n in order if waiting[n]]))].pop(0))
    end = {"type": "response.completed", "response": response()}
    assert streamed(*mixed, end).answer() == whole(response(*output))


def test_arguments_that_are_objects() -> None:
    """Arguments that a server has parsed are the object, in pieces, at the end and in an item."""
    call = {**function_call(1, "f", ""), "arguments": ""}
    added = {"type": "response.output_item.added", "output_index": 0, "item": call}
    place = {"item_id": "fc_1", "output_index": 0}
    delta = {"type": "response.function_call_arguments.delta", **place, "delta": {"a": 1}}
    done = {"type": "response.function_call_arguments.done", **place, "arguments": {"a": 1}}
    item = {"type": "response.output_item.done", "output_index": 0, "item": {**call, "arguments": {"a": 1}}}
    for events in ([delta], [done], [item], [delta, done, item]):
        (source,) = streamed(added, *events).answer().messages
        assert [called.arguments for called in source.calls] == [{"a": 1}]


@pytest.mark.parametrize("empty", ["", None, "{}", {}])
def test_an_empty_call_beside_a_text(empty: Any) -> None:
    """A call of nothing is none, in an item of an answer and of a request."""
    call = {"type": "function_call", "call_id": "", "name": "", "arguments": empty}
    assert bare(whole(response(message("Hi"), call)))["messages"] == [{"role": "assistant", "text": "Hi"}]
    lost = {**call, "name": None, "arguments": "5"}
    assert whole(response(message("Hi"), lost)).metadata == {
        "items": [{"type": "function_call", "call_id": "", "arguments": "5"}]
    }
    assert RESPONSES.read(call) == RESPONSES.read(lost) == ()


def _cut(text: str) -> list[dict[str, Any]]:
    return talk([message(text)], response(), "added .delta", indexes="right", ids="right")


def test_an_emoji_cut_in_two() -> None:
    """Half a character at the end of a fragment, and half of it at the beginning of the next, are one character."""
    (source,) = streamed(*_cut("\ud83d\ude00")).answer().messages
    assert source.text == "😀"


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    def sent(**server: str) -> Callable[[Any], Reply]:
        events = talk(OUTPUT, ENDS["null"], EVERYTHING, **server)
        return lambda _request: scripted.stream(*events, done=False, named=True)

    with scripted.serve({ids: sent(indexes="zero", ids=ids) for ids in ("right", "numbers")}) as served:
        yield served


@pytest.mark.parametrize("ids", ["right", "numbers"])
@pytest.mark.parametrize("raw", [False, True])
def test_the_items_through_a_client(ids: str, raw: bool, model: ScriptedModel, capture: RecordingCapture) -> None:
    """The app's client gives one turn with all items, read by events or as bytes."""
    with openai.OpenAI(api_key="k", base_url=model.base_url(ids), max_retries=0) as client:
        if raw:
            arguments: dict[str, Any] = {"model": "gpt-5", "input": "Hi", "stream": True}
            with client.responses.with_streaming_response.create(**arguments) as body:
                list(body.iter_bytes())
        else:
            list(client.responses.create(model="gpt-5", input="Hi", stream=True))
    answer = capture.only().answer
    assert answer is not None
    assert answer.messages == whole(response(*OUTPUT)).messages
