"""Streamed tool calls of servers that imitate OpenAI: the calls that were sent, whatever numbers them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from converra.history.turn import SourceToolCall
from converra.integrations.openai.chat_chunks import ChatChunks
from tests.history.talk import Chat, result, user
from tests.integrations import scripted
from tests.integrations.chat_scripts import chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.integrations.recording import RecordingCapture
    from tests.integrations.scripted import Reply, ScriptedModel

MISSING = object()


def fragment(
    arguments: Any = MISSING,
    *,
    index: Any = MISSING,
    id: Any = MISSING,  # noqa: A002 - the name of the field
    name: Any = MISSING,
) -> dict[str, Any]:
    """One element of `delta.tool_calls`, without what is missing."""
    function = {"name": name, "arguments": arguments}
    own = {"index": index, "id": id, "function": {key: f for key, f in function.items() if f is not MISSING}}
    return {key: value for key, value in own.items() if value is not MISSING}


GRAZ, LINZ = '{"city": "Graz"}', '{"city": "Linz"}'
BOTH = [SourceToolCall("a", "find", GRAZ), SourceToolCall("b", "find", LINZ)]

SERVERS: dict[str, tuple[list[dict[str, Any]], list[SourceToolCall]]] = {
    "all numbered 0, whole": (
        [fragment(GRAZ, index=0, id="a", name="find"), fragment(LINZ, index=0, id="b", name="find")],
        BOTH,
    ),
    "all numbered 0, in pieces": (
        [
            fragment("", index=0, id="a", name="find"),
            fragment(GRAZ[:7], index=0),
            fragment(GRAZ[7:], index=0, id="", name=""),
            fragment("", index=0, id="b", name="find"),
            fragment(LINZ[:7], index=0, id=None, name=None),
            fragment(LINZ[7:], index=0),
        ],
        BOTH,
    ),
    "all numbered 0, by turns": (
        [
            fragment(GRAZ[:7], index=0, id="a", name="find"),
            fragment(LINZ[:7], index=0, id="b", name="find"),
            fragment(GRAZ[7:], index=0, id="a"),
            fragment(LINZ[7:], index=0, id="b"),
        ],
        BOTH,
    ),
    "all numbered 0, ids empty": (
        [fragment(GRAZ, index=0, id="", name="find"), fragment(LINZ, index=0, id="", name="find")],
        [SourceToolCall(None, "find", GRAZ), SourceToolCall(None, "find", LINZ)],
    ),
    "numbers null": (
        [fragment(GRAZ, index=None, id="a", name="find"), fragment(LINZ, index=None, id="b", name="find")],
        BOTH,
    ),
    "numbers missing, ids missing": (
        [fragment(GRAZ[:7], name="find"), fragment(GRAZ[7:]), fragment(LINZ[:7], name="find"), fragment(LINZ[7:])],
        [SourceToolCall(None, "find", GRAZ), SourceToolCall(None, "find", LINZ)],
    ),
    "all repeated with every piece": (
        [
            fragment(GRAZ[:7], index=0, id="a", name="find"),
            fragment(GRAZ[7:], index=0, id="a", name="find"),
            fragment(LINZ[:7], index=1, id="b", name="find"),
            fragment(LINZ[7:], index=1, id="b", name="find"),
        ],
        BOTH,
    ),
    "one id for all": (
        [
            fragment(GRAZ, index=0, id="a", name="find"),
            fragment(LINZ[:7], index=1, id="a", name="find"),
            fragment(LINZ[7:], index=1),
        ],
        [SourceToolCall("a", "find", GRAZ), SourceToolCall("a", "find", LINZ)],
    ),
    "another id with every piece": (
        [
            fragment("", index=0, id="a", name="find"),
            fragment(GRAZ[:7], index=0, id="x"),
            fragment(GRAZ[7:], index=0, id="y", name=None),
            fragment("", index=1, id="b", name="find"),
            fragment(LINZ, index=1, id="z"),
        ],
        BOTH,
    ),
    "braces inside of texts": (
        [
            fragment('{"a": "}', index=0, name="find"),
            fragment('{"}', index=0, name="find"),
            fragment('{"b": {}}', index=0, name="find"),
        ],
        [SourceToolCall(None, "find", '{"a": "}{"}'), SourceToolCall(None, "find", '{"b": {}}')],
    ),
    "the name or the id comes late": (
        [
            fragment(GRAZ, index=0, id="a"),
            fragment("", index=0, name="find"),
            fragment(LINZ[:7], index=1, name="find"),
            fragment(LINZ[7:], index=1, id="b"),
        ],
        BOTH,
    ),
    "the last piece says all again": (
        [
            fragment(GRAZ, index=0, id="a", name="find"),
            fragment(LINZ, index=1, id="b", name="find"),
            fragment(GRAZ, index=0, id="a", name="find"),
            fragment("", index=1, id="b", name="find"),
        ],
        BOTH,
    ),
    "numbered from the second piece on": (
        [fragment(GRAZ[:7], id="a", name="find"), fragment(GRAZ[7:], index=0), fragment(LINZ, id="b", name="find")],
        BOTH,
    ),
    "ids that are numbers": (
        [fragment(GRAZ, index=0, id=0, name="find"), fragment(LINZ, index=0, id=1, name="find")],
        [SourceToolCall("0", "find", GRAZ), SourceToolCall("1", "find", LINZ)],
    ),
    "arguments that are objects": (
        [
            fragment({"city": "Graz"}, index=0, id="a", name="find"),
            fragment({"city": "Linz"}, index=0, id="b", name="find"),
            fragment([1], index=0, id="c", name="sum"),
            fragment(7, index=0, id="d", name="sum"),
            fragment(None, index=0, id="e", name="sum"),
        ],
        [
            SourceToolCall("a", "find", {"city": "Graz"}),
            SourceToolCall("b", "find", {"city": "Linz"}),
            SourceToolCall("c", "sum", [1]),
            SourceToolCall("d", "sum", 7),
            SourceToolCall("e", "sum", ""),
        ],
    ),
    "objects in pieces, or after an empty text": (
        [
            fragment("", index=0, id="a", name="find"),
            fragment({"city": "Graz"}, index=0),
            fragment({"near": True}, index=0),
            fragment("7", index=1, id="b", name="sum"),
            fragment({"\ud83d": 5}, index=1),
        ],
        [SourceToolCall("a", "find", {"city": "Graz", "near": True}), SourceToolCall("b", "sum", '7{"\ufffd":5}')],
    ),
    "an emoji cut in two": (
        [fragment('{"mood": "\ud83d', index=0, id="a", name="find"), fragment('\ude00"}', index=0)],
        [SourceToolCall("a", "find", '{"mood": "😀"}')],
    ),
    "empty calls": (
        [
            fragment("", index=0, id="", name=""),
            fragment(None, index=1, id=None, name=None),
            {"index": 2, "function": None},
            fragment(index=3, id="x"),
            fragment("{}", index=4, id="y", name=""),
            {},
        ],
        [],
    ),
}


def streamed(*fragments: dict[str, Any]) -> list[SourceToolCall]:
    """The calls of a stream, read as JSON and as the SDK's objects, asked for in the middle and at the end."""
    plain, built = ChatChunks(), ChatChunks()
    for one in fragments:
        delta = chunk({"tool_calls": [one]})
        plain.feed(delta)
        built.feed(ChatCompletionChunk.construct(**delta))
        assert plain.answer() == built.answer()
    (source,) = plain.answer().messages
    return list(source.calls)


@pytest.mark.parametrize("server", SERVERS)
def test_the_calls_of_a_server(server: str) -> None:
    """The calls are those that were sent, in whatever way a server numbers and names them."""
    fragments, calls = SERVERS[server]
    assert streamed(*fragments) == calls


SIGNED: dict[str, Any] = {"extra_content": {"google": {"thought_signature": "abc"}}}


@pytest.mark.parametrize(
    "fragments",
    [
        [{**fragment(GRAZ, index=0, id="a", name="find"), **SIGNED}],
        [fragment("", index=0, id="a", name="find"), {**fragment(GRAZ, index=0), **SIGNED}],
        [fragment("", index=0, id="a", name="find"), {**fragment(GRAZ, index=0, id=None), "type": None, **SIGNED}],
        [{**fragment(GRAZ[:7], index=0, id="a", name="find"), **SIGNED}, fragment(GRAZ[7:], index=0)],
    ],
)
def test_fields_beside_the_function(fragments: list[dict[str, Any]]) -> None:
    """Fields of a tool call that are not read are kept in the metadata, as those of an answer without streaming are."""
    plain, built = ChatChunks(), ChatChunks()
    for piece in fragments:
        delta = chunk({"tool_calls": [piece]})
        plain.feed(delta)
        built.feed(ChatCompletionChunk.construct(**delta))
    for chunks in plain, built:
        (source,) = chunks.answer().messages
        assert source.calls == (SourceToolCall("a", "find", GRAZ),)
        assert source.metadata == {"calls": {"a": SIGNED}}


# -- through the client ------------------------------------------------------------------------------------------------


def _reply(fragments: list[dict[str, Any]]) -> Reply:
    pieces = [chunk({"tool_calls": [one]}) for one in fragments]
    return scripted.stream(chunk({"role": "assistant", "content": ""}), *pieces, chunk({}, finish="tool_calls"))


def _same(reply: Reply, _request: Any) -> Reply:
    return reply


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    scripts: dict[str, Callable[[Any], Reply]] = {}
    for number, (fragments, _) in enumerate(SERVERS.values()):
        scripts[f"s{number}"] = functools.partial(_same, _reply(fragments))
    with scripted.serve(scripts) as served:
        yield served


QUESTION: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def _read(client: openai.OpenAI) -> None:
    list(client.chat.completions.create(**QUESTION))


def _read_raw(client: openai.OpenAI) -> None:
    with client.chat.completions.with_streaming_response.create(**QUESTION) as response:
        list(response.iter_bytes())


async def _read_async(url: str) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=0) as client:
        async for _ in await client.chat.completions.create(**QUESTION):
            pass


@pytest.mark.parametrize("way", ["sync", "raw", "async"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_calls_through_a_client(server: str, way: str, model: ScriptedModel, capture: RecordingCapture) -> None:
    """The app's client gives one turn with these calls, read by chunks or as bytes, sync or async."""
    url = model.base_url(f"s{list(SERVERS).index(server)}")
    if way == "async":
        asyncio.run(_read_async(url))
    else:
        with openai.OpenAI(api_key="k", base_url=url, max_retries=0) as client:
            (_read if way == "sync" else _read_raw)(client)
    answer = capture.only().answer
    assert answer is not None
    assert [list(source.calls) for source in answer.messages] == [SERVERS[server][1]]


# -- any server --------------------------------------------------------------------------------------------------------


class Server(NamedTuple):
    """How a server tells its calls apart: what it sends with the first fragment of a call, and with the others."""

    indexes: str
    ids: str
    names: str


SILENCES: dict[str, Any] = {"missing": MISSING, "null": None, "empty": ""}
INDEXES = ("right", "zero", "missing", "null")
OTHERS = ("same", "missing", "null", "empty")
"""What the later fragments of a call have of its id or its name."""

servers = st.builds(
    Server,
    indexes=st.sampled_from(INDEXES),
    ids=st.sampled_from([*OTHERS, "never", "another"]),
    names=st.sampled_from(OTHERS),
).filter(lambda server: not (server.ids == "another" and server.names == "same"))  # nothing says where a call begins

values: st.SearchStrategy[Any] = (
    st.text(st.sampled_from('ab{}[]",\\ 😀é'), max_size=6) | st.integers(0, 9) | st.just({}) | st.just({"x": [1]})
)
sent_calls = st.lists(
    st.tuples(
        st.sampled_from(["find", "sum"]), st.dictionaries(st.sampled_from("abc"), values, min_size=1, max_size=2)
    ),
    min_size=1,
    max_size=4,
)


def _index(server: Server, number: int) -> Any:
    return {"right": number, "zero": 0, "missing": MISSING, "null": None}[server.indexes]


def _later(mode: str, own: str, number: int) -> Any:
    if mode == "another":
        return f"random{number}"
    return own if mode == "same" else SILENCES.get(mode, MISSING)


def _fragments(server: Server, number: int, call: SourceToolCall, pieces: list[str]) -> list[dict[str, Any]]:
    own_id: Any = MISSING if server.ids == "never" else call.id
    index, name = _index(server, number), call.name or ""
    first = fragment(pieces[0], index=index, id=own_id, name=name)
    later = [
        fragment(
            piece,
            index=index,
            id=_later(server.ids, call.id or "", 100 * number + n),
            name=_later(server.names, name, n),
        )
        for n, piece in enumerate(pieces[1:])
    ]
    return [first, *later]


def _cut(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@settings(deadline=None)
@given(sent_calls, servers, st.data())
def test_any_server(sent: list[tuple[str, dict[str, Any]]], server: Server, data: st.DataObject) -> None:
    """Whatever a server leaves out or repeats, the calls are those that it sent, and resending them adds nothing."""
    calls = [SourceToolCall(f"call_{n}", name, json.dumps(given)) for n, (name, given) in enumerate(sent)]
    streams = [_fragments(server, n, call, _cut(call.arguments, data)) for n, call in enumerate(calls)]
    told_apart = server.indexes == "right" or server.ids == "same"
    found = streamed(*(_by_turns(streams, data) if told_apart else list(itertools.chain(*streams))))
    expected = [msgspec.structs.replace(call, id=None) if server.ids == "never" else call for call in calls]
    assert sorted(map(repr, found)) == sorted(map(repr, expected))
    assert told_apart or found == expected
    _resent(found, data)


def _by_turns(streams: list[list[dict[str, Any]]], data: st.DataObject) -> list[dict[str, Any]]:
    """Fragments of several calls, mixed, each call's own in order."""
    waiting, mixed = [list(stream) for stream in streams], []
    while any(waiting):
        mixed.append(data.draw(st.sampled_from([stream for stream in waiting if stream])).pop(0))
    return mixed


def _resent(found: list[SourceToolCall], data: st.DataObject) -> None:
    """Send the calls again as apps do, whole or parsed, with their results: only those and the question are new."""
    chat, question = Chat(), user("Go")
    made = [{"id": c.id, "function": {"name": c.name, "arguments": c.arguments}} for c in found]
    chat.ask([question], *made)
    parsed = data.draw(st.booleans())
    again = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": _loads(c.arguments, parsed=parsed)}}
        for c in found
    ]
    results = [result(c.id, "done") for c in found if c.id]
    more = chat.ask([question, {"role": "assistant", "content": None, "tool_calls": again}, *results], "Done.")
    assert more == [
        *[f"{n} tool {c.id}/{c.name}: done" for n, c in enumerate((c for c in found if c.id), 2)],
        f"{2 + len(results)} assistant: Done.",
    ]


def _loads(arguments: str, *, parsed: bool) -> Any:
    return json.loads(arguments) if parsed else arguments
