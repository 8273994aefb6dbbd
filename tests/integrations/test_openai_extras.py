"""What an answer holds besides its text: pictures, sources, counts by other names, and fields that nobody reads."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from converra.integrations.payload.extras import MAX_FIELD, encoded, kept, unread
from converra.integrations.payload.media import attachment
from converra.integrations.payload.usage import counts, snapshot
from tests.integrations import scripted
from tests.integrations.chat_scripts import chunk, completion, tool_call, usage
from tests.integrations.openai_shapes import async_client_for, client_for
from tests.integrations.pictures import (
    ATTACHED,
    DATA,
    DIGEST,
    LARGE_ATTACHED,
    LARGE_IN_TEXT,
    LARGE_LINE,
    LINE,
    PICTURE,
    PNG,
    URL,
    WITHHELD,
)
from tests.integrations.responses_scripts import message, response
from tests.integrations.scripted import document, stream
from tests.integrations.stored import recorder_for, stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import openai

    from converra.capture.recorder import Recorder
    from converra.server.run import LocalServer
    from tests.integrations.scripted import Reply, ScriptedModel

LINKED = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
QUESTION: Any = [{"role": "user", "content": "Hi"}]
SOURCES = ["https://example.com/1", "https://example.com/2"]


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted.serve({}) as served:
        yield served


class Asking:
    """Asks a model that answers with what it is given, in each way in which an app may, and reads what is stored."""

    def __init__(self, server: LocalServer, recorder: Recorder, model: ScriptedModel) -> None:
        self._server = server
        self._recorder = recorder
        self._model = model

    def messages(self, reply: Reply, ask: Callable[[openai.OpenAI], Any]) -> list[dict[str, Any]]:
        """What is stored after a program has asked a model that always answers so."""
        self._model.scripts["any"] = lambda _request: reply
        with client_for(self._model, "any") as client:
            return self._of(lambda: ask(client))

    def stored(self, reply: Reply, ask: Callable[[openai.OpenAI], Any]) -> dict[str, Any]:
        """The one answer that is stored after a program has asked."""
        _, answer = self.messages(reply, ask)
        return answer

    def awaited(self, reply: Reply, **arguments: Any) -> dict[str, Any]:
        """The same by the async client."""
        self._model.scripts["any"] = lambda _request: reply

        async def main() -> None:
            async with async_client_for(self._model, "any") as client:
                result: Any = await client.chat.completions.create(model="m", messages=QUESTION, **arguments)
                if arguments.get("stream"):
                    async for _ in result:
                        pass

        _, answer = self._of(lambda: asyncio.run(main()))
        return answer

    def _of(self, talk: Callable[[], Any]) -> list[dict[str, Any]]:
        messages = stored(self._server, self._recorder, talk)
        assert messages[0] == QUESTION[0]
        assert DATA not in json.dumps(messages), "base64 was stored"
        return messages

    def chat(self, source: dict[str, Any], **more: Any) -> Iterator[dict[str, Any]]:
        """One message of a chat, asked for in every way."""
        whole = document(completion(source, **more))
        deltas = [{"role": "assistant"}, *({name: value} for name, value in source.items())]
        last = chunk(finish="stop", usage=more.get("usage"))
        chunks = stream(*[chunk(delta) for delta in deltas], chunk({}, finish="stop"), last)
        yield self.stored(whole, _plain)
        yield self.awaited(whole)
        yield self.stored(whole, _raw)
        yield self.stored(chunks, _streamed)
        yield self.awaited(chunks, stream=True)


def _plain(client: openai.OpenAI) -> Any:
    return client.chat.completions.create(model="m", messages=QUESTION)


def _raw(client: openai.OpenAI) -> Any:
    return client.chat.completions.with_raw_response.create(model="m", messages=QUESTION).parse()


def _streamed(client: openai.OpenAI) -> Any:
    return list(client.chat.completions.create(model="m", messages=QUESTION, stream=True))


def _responses(client: openai.OpenAI) -> Any:
    return client.responses.create(model="m", input="Hi")


def _responses_streamed(client: openai.OpenAI) -> Any:
    return list(client.responses.create(model="m", input="Hi", stream=True))


@pytest.fixture
def asking(server: LocalServer, recorder: Recorder, model: ScriptedModel) -> Asking:
    return Asking(server, recorder, model)


def metadata(answer: dict[str, Any]) -> dict[str, Any]:
    """The metadata without counts."""
    return {key: value for key, value in answer.get("metadata", {}).items() if key != "usageDetails"}


# -- pictures, audio, files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "content", "attached"),
    [
        ({"images": [PICTURE]}, LINE, [ATTACHED]),
        ({"content": "Here:", "images": [PICTURE]}, f"Here:\n{LINE}", [ATTACHED]),
        ({"images": [URL]}, LINE, [ATTACHED]),
        ({"images": [{"b64_json": DATA, "mime_type": "image/png"}]}, LINE, [ATTACHED]),
        (
            {"images": [LINKED]},
            "[image: https://example.com/cat.png]",
            [{"kind": "image", "url": "https://example.com/cat.png"}],
        ),
        ({"image": {"inline_data": {"mime_type": "image/png", "data": DATA}}}, LINE, [ATTACHED]),
        ({"drawings": [{"type": "image", "data": DATA, "mimeType": "image/png"}]}, LINE, [ATTACHED]),
    ],
)
def test_pictures_beside_the_text(source: dict[str, Any], content: str, attached: list[Any], asking: Asking) -> None:
    """Pictures that come beside the text are attached, plain and streamed, and never stored themselves."""
    for answer in asking.chat(source):
        assert (answer["role"], answer["content"]) == ("assistant", content)
        assert answer["metadata"]["attachments"] == attached


@pytest.mark.parametrize(
    ("part", "line", "attached"),
    [
        ({"type": "output_image", "image_url": URL}, LINE, ATTACHED),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}}, LINE, ATTACHED),
        ({"type": "image", "image": DATA, "mime_type": "image/png"}, LINE, ATTACHED),
        ({"inlineData": {"mimeType": "image/png", "data": DATA}}, LINE, ATTACHED),
        (
            {"type": "output_audio", "data": DATA, "format": "wav", "transcript": "Hello"},
            "Hello",
            {"kind": "audio", "mime": "audio/wav", **DIGEST},
        ),
        (
            {"type": "file", "file": {"file_data": URL, "filename": "a.png"}},
            f"[file: a.png, image/png, {len(PNG)} bytes]",
            {"kind": "file", "mime": "image/png", **DIGEST, "name": "a.png"},
        ),
    ],
)
def test_parts_of_the_content(part: dict[str, Any], line: str, attached: dict[str, Any], asking: Asking) -> None:
    """Parts of a chat's or a response's content that are pictures, audio or files are attached, in any shape."""
    items = [message("x") | {"content": [{"type": "output_text", "text": "Look:", "annotations": []}, part]}]
    whole = response(*items)
    finished = {"type": "response.completed", "response": whole}
    done = {"type": "response.output_item.done", "output_index": 0, "item": items[0]}
    bare = {"type": "response.completed", "response": {**whole, "output": []}}
    answers = [
        *asking.chat({"content": [{"type": "text", "text": "Look:"}, part]}),
        asking.stored(document(whole), _responses),
        asking.stored(stream(finished, named=True), _responses_streamed),
        asking.stored(stream(done, bare, named=True), _responses_streamed),
    ]
    for answer in answers:
        assert answer["content"].splitlines()[-1] == line
        assert "Look:" in answer["content"]
        assert answer["metadata"]["attachments"] == [attached]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": DATA},
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "plot()",
            "container_id": "c",
            "status": "completed",
            "outputs": [{"type": "image", "url": URL}],
        },
        {"type": "drawing_call", "id": "dc_1", "result": {"type": "image", "mime_type": "image/png", "data": DATA}},
    ],
)
def test_items_with_pictures(item: dict[str, Any], asking: Asking) -> None:
    """Output items with pictures, known and unknown, are kept with an attachment in the place of the data."""
    whole = response(item, message("Done."))
    finished = {"type": "response.completed", "response": whole}
    for reply, ask in ((document(whole), _responses), (stream(finished, named=True), _responses_streamed)):
        messages = asking.messages(reply, ask)
        assert [m["content"] for m in messages] == ["Hi", LINE, "Done."]
        assert messages[1]["metadata"]["attachments"] == [ATTACHED]


def test_pictures_that_are_written_into_the_text(asking: Asking) -> None:
    """Large data URLs in an answer's text are attached as well; small ones are part of what was written."""
    small = URL.replace("image", "audio")[:40]
    text = f"Here: {LARGE_IN_TEXT} and {small}"
    for answer in (*asking.chat({"content": text}), asking.stored(document(response(message(text))), _responses)):
        assert answer["content"] == f"Here: {LARGE_LINE} and {small}"
        assert metadata(answer)["attachments"] == [LARGE_ATTACHED]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"content": "Here:", "images": [PICTURE]}, f"Here:\n{LINE}"),
        ({"content": f"Here: {LARGE_IN_TEXT}"}, f"Here: {LARGE_LINE}"),
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_a_resent_picture_is_recorded_once(source: dict[str, Any], line: str, *, bare: bool, asking: Asking) -> None:
    """An answer with pictures that the app sends again, as a dict, is recognised."""

    def ask(client: openai.OpenAI) -> None:
        answer = _plain(client).choices[0].message
        resent: Any = {"role": "assistant", **source} if bare else answer.model_dump(exclude_none=True)
        client.chat.completions.create(model="m", messages=[*QUESTION, resent, {"role": "user", "content": "More"}])

    messages = asking.messages(document(completion(source)), ask)
    assert [m["content"] for m in messages] == ["Hi", line, "More", line]


# -- sources, and fields that nobody reads -----------------------------------------------------------------------------


CITED = {"citations": [{"content": "Returns within 30 days.", "title": "Terms", "url": "https://example.com/terms"}]}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ({"context": {**CITED, "intent": '["returns"]'}}, {"context": {**CITED, "intent": '["returns"]'}}),
        (CITED, CITED),
        (
            {"annotations": [{"type": "file", "file": {"hash": "a"}}]},
            {"annotations": [{"type": "file", "file": {"hash": "a"}}]},
        ),
        ({"mood": "kind", "nothing": None, "empty": []}, {"mood": "kind"}),
        ({"error": "odd", "messageId": "theirs"}, {"fields": {"error": "odd", "messageId": "theirs"}}),
        ({"thumbnail": DATA, "icon": URL}, None),
        ({"reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "signature": DATA}]}, {"reasoning": "Hm."}),
        ({"trace": ["word " * 9] * 999}, {"trace": f"<{999 * 48 + 1} bytes>"}),
    ],
)
def test_fields_beside_the_text(source: dict[str, Any], found: dict[str, Any] | None, asking: Asking) -> None:
    """Sources and unknown fields of a message are kept in the answer's metadata, large ones by their size."""
    for answer in asking.chat({"content": "Sure.", **source}):
        assert answer["content"].splitlines()[0] == "Sure."
        kept_ones = metadata(answer)
        if found is None:
            assert kept_ones["thumbnail"] == f"<{len(DATA)} characters>"
            assert kept_ones["attachments"] == [ATTACHED]
        else:
            assert kept_ones == found


def test_fields_of_the_whole_answer(asking: Asking) -> None:
    """Unknown fields of the completion and of its choice are kept, plain and streamed."""
    whole = completion({"content": "Sure."}, citations=SOURCES, provider="Groq", x_groq={"id": "req_1"})
    whole["choices"][0]["native_finish_reason"] = "STOP"
    pieces: list[Any] = [chunk({"content": word}, provider="Groq") for word in ("Su", "re", ".")]
    last = chunk({}, finish="stop", provider="Groq", citations=SOURCES)
    last["choices"][0]["native_finish_reason"] = "STOP"
    pieces[1]["citations"] = SOURCES[:1]
    found = {"citations": SOURCES, "provider": "Groq", "native_finish_reason": "STOP"}
    replies = ((document(whole), _plain), (document(whole), _raw), (stream(*pieces, last), _streamed))
    for reply, ask in replies:
        answer = asking.stored(reply, ask)
        assert answer["content"] == "Sure."
        assert metadata(answer) == found


def test_fields_of_a_response(asking: Asking) -> None:
    """Unknown fields of a response, its message and its text are kept, plain and streamed."""
    item = {**message("Sure."), "mood": "kind"}
    item["content"] = [{"type": "output_text", "text": "Sure.", "annotations": [], "sources": SOURCES}]
    whole = response(item, citations=SOURCES)
    finished = {"type": "response.completed", "response": whole}
    for answer in (
        asking.stored(document(whole), _responses),
        asking.stored(stream(finished, named=True), _responses_streamed),
    ):
        assert answer["content"] == "Sure."
        assert metadata(answer) == {"mood": "kind", "sources": SOURCES, "citations": SOURCES}


def test_fields_of_other_choices_and_of_calls(asking: Asking) -> None:
    """Alternatives keep their pictures and fields, tool calls what stands beside their function."""
    whole = completion({"content": "A"}, {"content": "B", "mood": "kind", "images": [PICTURE]})
    (other,) = asking.stored(document(whole), _plain)["metadata"]["alternatives"]
    assert other == {
        "index": 1,
        "content": f"B\n{LINE}",
        "finishReason": "stop",
        "attachments": [ATTACHED],
        "metadata": {"mood": "kind", "images": [WITHHELD]},
    }
    call = {**tool_call(1, "f", "{}"), "extra_content": {"google": {"thought_signature": "x" * 300}}}
    answer = asking.stored(document(completion({"tool_calls": [call]}, finish="tool_calls")), _plain)
    assert metadata(answer) == {
        "calls": {"call_1": {"extra_content": {"google": {"thought_signature": "<300 characters>"}}}}
    }


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ({}, False),
        ({"hate": {"filtered": False, "severity": "safe"}}, False),
        ({"hate": {"filtered": False, "severity": "low"}}, True),
        ({"jailbreak": {"filtered": False, "detected": True}}, True),
    ],
)
def test_results_of_a_content_filter(results: dict[str, Any], *, found: bool, asking: Asking) -> None:
    """What Azure's filter says of every answer is kept where it found something."""
    filtered = [{"prompt_index": 0, "content_filter_results": results}]
    answer = asking.stored(document(completion({"content": "A"}, prompt_filter_results=filtered)), _plain)
    assert metadata(answer) == ({"prompt_filter_results": filtered} if found else {})


def test_words_are_withheld_from_unknown_fields(server: LocalServer, model: ScriptedModel) -> None:
    """Without content, no unknown field leaves the process, whatever its name."""
    answer = document(completion({"content": "A", "secret": "b", "error": "c", "part": "d", "thread": "e"}))
    model.scripts["any"] = lambda _request: answer
    with recorder_for(server, capture_content=False) as recorder, client_for(model, "any") as client:
        messages = stored(server, recorder, lambda: _plain(client))
    assert metadata(messages[-1]) == {}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (DATA, True),
        ("x" * 300, True),
        ("\n".join(["QUJD" * 19] * 5), True),
        ("https://example.com/" + "a" * 300, False),
        ("a word and another " * 20, False),
        ("d41d8cd98f00b204e9800998ecf8427e", False),
        ("data: none", False),
        ("", False),
    ],
)
def test_encoded_data(value: str, *, found: bool) -> None:
    """Base64 and data URLs are told from words, addresses and ids."""
    assert encoded(value) is found


def test_what_is_kept_is_bounded_and_plain() -> None:
    """Objects become plain data, odd strings do no harm, and a field is as large as its bound at most."""
    assert kept({"a": [None, "\ud800", 1.5]}) == {"a": [None, "\ud800", 1.5]}
    assert kept(["w " * 2000] * 9) == f"<{9 * 4003 + 1} bytes>"
    assert len(unread({str(n): 1 for n in range(999)}, frozenset())) < 100
    assert MAX_FIELD >= 16_000


def test_parts_that_are_none() -> None:
    """What embeds, links and names nothing is no attachment."""
    assert attachment({"type": "image"}) is None
    assert attachment({"url": "https://example.com"}) is None
    assert attachment({"name": "x", "profile": "y"}) is None


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "prompt", "details"),
    [
        (usage(21, 9, prompt_cache_hit_tokens=16, prompt_cache_miss_tokens=5), 21, {"cachedTokens": 16}),
        (usage(5, 9, prompt_cache_hit_tokens=16, prompt_cache_miss_tokens=5), 21, {"cachedTokens": 16}),
        (usage(21, 9, cached_tokens=16), 21, {"cachedTokens": 16}),
        (
            {**usage(5, 9, cache_read_input_tokens=16, cache_creation_input_tokens=3), "total_tokens": 33},
            24,
            {"cachedTokens": 16, "cacheWriteTokens": 3},
        ),
        (usage(24, 9, cache_read_input_tokens=16), 24, {"cachedTokens": 16}),
        (usage(5, 9, prompt_tokens_details={"cached_tokens": 16}), 21, {"cachedTokens": 16}),
        (usage(21, 9, queue_time=0.01, cost=0.002), 21, {"queue_time": 0.01, "cost": 0.002}),
    ],
)
def test_counts_by_other_names(reported: Any, prompt: int, details: Any, asking: Asking) -> None:
    """Cached tokens are told by whichever name, and are part of the prompt's, whichever way they were counted."""
    for answer in asking.chat({"content": "A"}, usage=reported):
        assert answer["usage"] == {"promptTokens": prompt, "completionTokens": 9}
        assert answer["metadata"]["usageDetails"] == details


def test_anthropics_own_counts() -> None:
    """Counts that a gateway passes on as Anthropic made them: the cached tokens stand beside the others."""
    own = {"input_tokens": 10, "output_tokens": 5, "cache_creation_input_tokens": 100, "cache_read_input_tokens": 200}
    tokens, details = counts(own)
    assert tokens is not None
    assert (tokens.prompt_tokens, tokens.completion_tokens) == (310, 5)
    assert details == {"cachedTokens": 200, "cacheWriteTokens": 100}


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "A"}), chunk({}, finish="stop", x_groq={"id": "req_1", "usage": usage(21, 9)})],
        [chunk({"content": "A"}, usage=usage(21, 9)), chunk({}, finish="stop", usage=usage(21, 9))],
        [chunk({"content": "A"}, usage=usage(21, 1)), chunk({"content": "B"}, usage=usage(21, 9))],
        [chunk({"content": "A"}, usage=usage(21, 0)), chunk({}, finish="stop", usage=usage(0, 9))],
        [chunk({"content": "A"}, usage=usage(21, 9)), chunk({}, finish="stop", usage=usage(0, 0))],
        [chunk({"content": "A"}), chunk(usage=usage(21, 9)), chunk(usage=None)],
    ],
)
def test_counts_of_a_stream(chunks: list[Any], asking: Asking) -> None:
    """Usage may come in Groq's own field, in each chunk, growing, in halves, or followed by nothing: it counts once."""
    for answer in (asking.stored(stream(*chunks), _streamed), asking.awaited(stream(*chunks), stream=True)):
        assert answer["usage"] == {"promptTokens": 21, "completionTokens": 9}


def _changed(result: Any) -> None:
    """Do to an answer what instructor does on retries, and more."""
    usage = result.usage
    for name in ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"):
        if hasattr(usage, name):
            setattr(usage, name, 99_999)
    for name in ("prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"):
        details = getattr(usage, name, None)
        for field in vars(details) if details is not None else ():
            setattr(details, field, 88_888)
    for name, value in (usage.__pydantic_extra__ or {}).items():
        setattr(usage, name, 77_777 if isinstance(value, int) else value.update(seconds=66_666))
    for choice in getattr(result, "choices", ()):
        choice.message.content = "changed"
        for call in choice.message.tool_calls or ():
            call.function.arguments = "changed"
        choice.message.tool_calls = None
    for item in getattr(result, "output", ()):
        for part in getattr(item, "content", None) or ():
            part.text = "changed"


@pytest.mark.parametrize("more", [{}, {"prompt_cache_hit_tokens": 16, "timing": {"seconds": 3}}])
@pytest.mark.parametrize("calls", [False, True])
def test_an_answer_that_the_app_changes(more: dict[str, Any], *, calls: bool, asking: Asking) -> None:
    """Usage, text and calls are stored as they were when the call returned, whatever the app does to them then."""
    details = {"prompt_tokens_details": {"cached_tokens": 16}, "completion_tokens_details": {"reasoning_tokens": 4}}
    source = {"content": "A", "tool_calls": [tool_call(1, "f", '{"a": 1}')] if calls else None}
    answer = asking.stored(
        document(completion(source, usage=usage(21, 9, **details, **more))), lambda client: _changed(_plain(client))
    )
    assert (answer["content"], answer["usage"]) == ("A", {"promptTokens": 21, "completionTokens": 9})
    seconds = {"timing": {"seconds": 3}} if more else {}
    assert answer["metadata"]["usageDetails"] == {"cachedTokens": 16, "reasoningTokens": 4, **seconds}
    if calls:
        assert answer["toolCalls"] == [{"id": "call_1", "name": "f", "arguments": {"a": 1}}]


def test_a_response_that_the_app_changes(asking: Asking) -> None:
    """The same of a response."""
    answer = asking.stored(document(response(message("A"))), lambda client: _changed(_responses(client)))
    assert (answer["content"], answer["usage"]) == ("A", {"promptTokens": 30, "completionTokens": 12})
    assert answer["metadata"]["usageDetails"] == {"cachedTokens": 8, "reasoningTokens": 5}


def test_a_chunk_that_the_app_changes(asking: Asking) -> None:
    """Usage and fields of a chunk are stored as they came."""
    last = chunk({}, finish="stop", usage=usage(21, 9), citations=SOURCES)

    def ask(client: openai.OpenAI) -> None:
        for piece in client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            if piece.usage:
                piece.usage.prompt_tokens = 99_999
                (piece.model_extra or {})["citations"].clear()

    answer = asking.stored(stream(chunk({"content": "A"}), last), ask)
    assert answer["usage"] == {"promptTokens": 21, "completionTokens": 9}
    assert metadata(answer) == {"citations": SOURCES}


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, {"prompt_tokens": "9"}])
def test_counts_that_are_none(odd: Any) -> None:
    """Nonsense counts nothing."""
    tokens, details = counts(snapshot(odd))
    assert tokens is None
    assert details in (None, {})
