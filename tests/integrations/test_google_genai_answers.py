"""Gemini's answers and requests, read: each part, fact and count, whole and in chunks."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest

from converra.history.turn import Answer, Attachment, SourceMessage, SourceToolCall
from converra.integrations.google_genai.chunks import Chunks
from converra.integrations.google_genai.contents import GENERATE, spoken, whole
from converra.integrations.google_genai.generate import answer, document, model_name, request, usage, usage_details
from converra.wire.models import Usage
from tests.integrations.gemini_scripts import CODE, GROUNDED, PNG, TEXT_CHUNKS, answered, chunk

CALL = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
WEATHER = SourceToolCall(None, "get_weather", {"city": "Paris"})


def streamed(*chunks: dict[str, Any]) -> tuple[Chunks, Answer]:
    """What is read of a stream, whose chunks come as objects with a JSON body."""
    found = Chunks()
    for one in chunks:
        found.feed(types.SimpleNamespace(body=json.dumps(one)))
    read = found.answer()
    weight = read.weight
    read.settle()
    assert weight >= sum(len(message.text) for message in read.messages)
    return found, read


@pytest.mark.parametrize(
    ("parts", "messages"),
    [
        ([{"text": "Yes."}], [SourceMessage("assistant", "Yes.")]),
        ([{"text": "Ye"}, {"text": "s."}], [SourceMessage("assistant", "Yes.")]),
        ([], [SourceMessage("assistant")]),
        (
            [
                {"text": "Hm", "thought": True},
                {"text": ".", "thought": True},
                {"text": "Yes.", "thoughtSignature": "e"},
            ],
            [SourceMessage("assistant", "Yes.", metadata={"reasoning": "Hm."})],
        ),
        ([CALL], [SourceMessage("assistant", "", (WEATHER,))]),
        (
            [{"text": "I look."}, {"functionCall": {"id": "c1", "name": "now"}}, CALL],
            [SourceMessage("assistant", "I look.", (SourceToolCall("c1", "now", {}), WEATHER))],
        ),
        (
            [{"text": "A tent:"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}, {"text": "Nice?"}],
            [
                SourceMessage(
                    "assistant",
                    "A tent:\n[image: image/png, 72 bytes]\nNice?",
                    attachments=(Attachment("image", "image/png", PNG),),
                )
            ],
        ),
        (
            [{"text": "Yes."}, {"holo": {"beam": 1}}],
            [SourceMessage("assistant", "Yes.", metadata={"parts": [{"holo": {"beam": 1}}]})],
        ),
        (
            [{"text": "Yes.", "partMetadata": {"page": 3}}],
            [SourceMessage("assistant", "Yes.", metadata={"partMetadata": {"page": 3}})],
        ),
    ],
)
def test_the_parts_of_an_answer(parts: list[Any], messages: list[SourceMessage]) -> None:
    """Texts are one text; thoughts, calls, media and unknown parts have their places."""
    assert list(spoken(parts)) == messages
    merged, found = streamed(*[chunk(part) for part in parts], chunk(finish="STOP"))
    assert list(found.messages) == messages
    assert merged.finished


def test_code_that_the_provider_runs() -> None:
    """Code and its output are a tool's message, between the texts around them."""
    before, ran, after = spoken(CODE)
    assert (before.text, after.text) == ("Let me count.", "It is 42.")
    code = {"language": "PYTHON", "code": "print(6 * 7)"}
    assert (ran.role, ran.text, ran.calls) == ("tool", "42\n", (SourceToolCall(None, "code_execution", code),))
    assert ran.metadata == {"item": {"call": code, "result": CODE[2]["codeExecutionResult"]}}


def test_code_without_a_result_yet() -> None:
    """A stream may end between the code and its output; a result finds its call by its id."""
    (ran,) = spoken([{"executableCode": {"language": "PYTHON", "code": "1"}}])
    assert (ran.role, ran.text) == ("tool", "")
    calls = [{"toolCall": {"id": n, "toolType": "GOOGLE_SEARCH_WEB", "args": {"q": n}}} for n in ("a", "b")]
    results = [{"toolResponse": {"id": n, "toolType": "GOOGLE_SEARCH_WEB", "response": {"n": n}}} for n in ("b", "a")]
    found = spoken([*calls, *results, {"text": "Found."}])
    assert [(m.role, m.text, [c.id for c in m.calls]) for m in found] == [
        ("tool", '{"n":"b"}', ["b"]),
        ("tool", '{"n":"a"}', ["a"]),
        ("assistant", "Found.", []),
    ]


def test_the_facts_of_an_answer() -> None:
    """Model, counts, id; prompt tokens include the cached ones, and thoughts are part of the completion."""
    found = answer(answered({"text": "Yes."}))
    assert (found.model, found.response_id, found.finish_reason) == ("gemini-2.5-flash", "r-1", "stop")
    assert found.usage == Usage(21, 9)
    assert found.usage_details == {"cachedTokens": 16, "reasoningTokens": 4, "promptImageTokens": 8}
    assert found.metadata is None


@pytest.mark.parametrize(
    ("reported", "counted", "details"),
    [
        ({}, None, None),
        ({"promptTokenCount": 3, "totalTokenCount": 3}, Usage(3, 0), None),
        ({"promptTokenCount": 3}, Usage(3, None), None),
        ({"promptTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 5}, Usage(3, 2), {"reasoningTokens": 2}),
        (
            {
                "promptTokenCount": 3,
                "candidatesTokenCount": 1,
                "toolUsePromptTokenCount": 7,
                "trafficType": "ON_DEMAND",
            },
            Usage(3, 1),
            {"toolUsePromptTokens": 7, "trafficType": "ON_DEMAND"},
        ),
        ({"promptTokenCount": "3", "candidatesTokenCount": None}, None, None),
    ],
)
def test_counts(reported: dict[str, Any], counted: Usage | None, details: dict[str, Any] | None) -> None:
    """A count that is zero is left out on the wire; nothing is estimated."""
    assert usage(reported) == counted
    assert usage_details(reported) == details


def test_sources_and_ratings() -> None:
    """Sources are kept under the provider's name, without their markup; harmless ratings are not."""
    found = answer(answered({"text": "Two metres."}, **GROUNDED))
    assert found.metadata is not None
    sources = found.metadata["groundingMetadata"]
    assert sources["groundingChunks"] == GROUNDED["groundingMetadata"]["groundingChunks"]
    assert sources["searchEntryPoint"] == {"renderedContent": "<6011 characters>"}
    assert "safetyRatings" not in found.metadata
    harmful = {"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True}
    filtered = answer({"candidates": [{"finishReason": "SAFETY", "safetyRatings": [harmful]}]})
    assert filtered.messages == (SourceMessage("assistant"),)
    assert (filtered.finish_reason, filtered.metadata) == ("SAFETY", {"safetyRatings": [harmful]})


def test_a_blocked_prompt_is_a_refusal() -> None:
    """There is no candidate, only the reason."""
    reason = {"blockReason": "PROHIBITED_CONTENT", "blockReasonMessage": "Not that."}
    for found in (answer({"promptFeedback": reason}), streamed({"promptFeedback": reason})[1]):
        assert found.messages == (SourceMessage("assistant", "Not that.", metadata={"refusal": True}),)
        assert found.finish_reason == "PROHIBITED_CONTENT"


def test_candidates_beside_the_first() -> None:
    """The others are alternatives, also where their chunks interleave or come in another order."""
    second = answered({"text": "Tails."}, index=1)["candidates"]
    found = answer({"candidates": [*second, *answered({"text": "Heads."})["candidates"]]})
    assert [m.text for m in found.messages] == ["Heads."]
    assert found.alternatives == ({"index": 1, "content": "Tails.", "finishReason": "STOP"},)
    pieces = [chunk({"text": text}, index=at) for text, at in (("Ta", 1), ("He", 0), ("ils.", 1), ("ads.", 0))]
    merged = streamed(*pieces)[1]
    assert [m.text for m in merged.messages] == ["Heads."]
    assert merged.alternatives == ({"index": 1, "content": "Tails."},)


def test_a_stream_counts_what_its_last_chunk_says() -> None:
    """Counts are cumulative: they are replaced, never summed."""
    pieces, found = streamed(*TEXT_CHUNKS)
    assert (found.messages[0].text, found.messages[0].metadata) == ("Hello there!", {"reasoning": "Weighing it."})
    assert found.usage == Usage(21, 5)
    assert pieces.started
    partial, cut = streamed(*TEXT_CHUNKS[:3])
    assert (cut.messages[0].text, cut.usage, partial.finished) == ("Hello", Usage(21, 2), False)


def test_arguments_that_come_in_pieces() -> None:
    """A call whose arguments are streamed is one call."""

    def part(**call: Any) -> dict[str, Any]:
        return chunk({"functionCall": call})

    found = streamed(
        part(name="book", id="c1", willContinue=True),
        part(partialArgs=[{"jsonPath": "$.city", "stringValue": "Par", "willContinue": True}], willContinue=True),
        part(partialArgs=[{"jsonPath": "$.city", "stringValue": "is"}], willContinue=True),
        part(partialArgs=[{"jsonPath": "$.stops[0]['at']", "numberValue": 9}], willContinue=True),
        part(partialArgs=[{"jsonPath": "$.stops[1].note", "nullValue": "NULL_VALUE"}]),
        chunk(CALL),
        chunk(finish="STOP"),
    )[1]
    arguments = {"city": "Paris", "stops": [{"at": 9}, {}]}
    assert [call.name for call in found.messages[0].calls] == ["book", "get_weather"]
    assert found.messages[0].calls[0].id == "c1"
    assert found.messages[0].calls[0].arguments == arguments


@pytest.mark.parametrize("body", ["", "null", "[]", "<html>", "{", '{"candidates": 7}', '{"candidates": [null]}'])
def test_nonsense(body: str) -> None:
    """Whatever a gateway sends, reading it does not raise."""
    found = answer(document(body))
    assert found.messages == () or found.messages == (SourceMessage("assistant"),)


def test_half_a_character() -> None:
    """Half a surrogate pair at the end of one chunk and the start of the next is one character."""
    found = Chunks()
    for half in ("\\ud83d", "\\ude00"):
        body = json.dumps({"candidates": [{"content": {"parts": [{"text": "HALF"}]}}]}).replace("HALF", half)
        found.feed(types.SimpleNamespace(body=body))
    assert found.answer().messages[0].text == "😀"


def test_a_parsed_body_is_copied() -> None:
    """Old versions hand the SDK's own dict over: what becomes of it later does not matter."""
    body = answered({"functionCall": {"name": "f", "args": {"list": [1]}}})
    found, pieces = answer(document(body)), Chunks()
    pieces.feed(body)
    body["candidates"][0]["content"]["parts"][0]["functionCall"]["args"]["list"].append(2)
    assert found.messages[0].calls[0].arguments == {"list": [1]}
    assert pieces.answer().messages[0].calls[0].arguments == {"list": [1]}


# -- requests ----------------------------------------------------------------------------------------------------------


def test_a_request() -> None:
    """System instruction, model, tools, and the contents in the order in which they stand."""
    body = {
        "contents": [{"parts": [{"text": "Hi"}], "role": "user"}],
        "systemInstruction": {"parts": [{"text": "Be"}, {"text": "brief."}], "role": "user"},
        "tools": [{"functionDeclarations": [{"name": "get_weather"}]}, {"googleSearch": {}}],
    }
    found = request("models/gemini-2.5-flash:generateContent", body)
    assert (found.model, found.instructions, found.previous) == ("gemini-2.5-flash", "Be\nbrief.", None)
    assert list(found.tools) == [{"name": "get_weather"}, {"type": "googleSearch"}]
    assert [m for content in found.messages for m in GENERATE.read(content)] == [SourceMessage("user", "Hi")]


def test_a_request_that_continues_an_answer() -> None:
    """The SDK asks for the rest by a token: the request brings nothing new, and belongs to that answer."""
    body = {"contents": [{"parts": [{"text": "Hi"}], "role": "user"}], "continuationToken": "t-1"}
    found = request("models/g:generateContent", body)
    assert (found.messages, found.previous) == ((), "t-1")
    cut = answer(answered({"text": "Once"}, finish="CONTINUATION", continuationToken="t-1"))
    assert cut.response_id == "t-1"


def test_cached_contents_are_named() -> None:
    """Only the provider has what is in the cache."""
    found = request("models/g:generateContent", {"contents": [], "cachedContent": "cachedContents/1"})
    assert found.instructions == "[cached content: cachedContents/1]"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
        ("publishers/google/models/gemini-3-pro:streamGenerateContent?alt=sse", "gemini-3-pro"),
        ("projects/p/locations/l/publishers/google/models/g:generateContent", "g"),
        ("tunedModels/7:generateContent", "tunedModels/7"),
        ("projects/p/locations/l/endpoints/12:generateContent", "endpoints/12"),
        ("{model}:generateContent", "{model}"),
    ],
)
def test_the_model_that_a_path_names(path: str, name: str) -> None:
    """The last segment, and for a tuned model what it is of."""
    assert model_name(path) == name


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ({"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}, [SourceMessage("user", "a\nb")]),
        ({"parts": [{"text": "a"}]}, [SourceMessage("user", "a")]),
        ({"role": "user", "parts": []}, []),
        (
            {"role": "user", "parts": [{"inlineData": {"data": "-__-MTIz", "mime_type": "audio/wav"}}, {"text": "a"}]},
            [
                SourceMessage(
                    "user",
                    "[audio: audio/wav, 6 bytes]\na",
                    attachments=(Attachment("audio", "audio/wav", "-__-MTIz"),),
                )
            ],
        ),
        (
            {"role": "user", "parts": [{"fileData": {"fileUri": "gs://a/b.pdf", "mimeType": "application/pdf"}}]},
            [
                SourceMessage(
                    "user",
                    "[file: gs://a/b.pdf, application/pdf]",
                    attachments=(Attachment("file", "application/pdf", None, "gs://a/b.pdf"),),
                )
            ],
        ),
        (
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"name": "f", "response": {"result": "sunny"}}},
                    {"functionResponse": {"id": "c2", "name": "f", "response": {"result": {"t": 1}}}},
                    {"functionResponse": {"name": "g", "response": {"error": "no"}}},
                    {"text": "And now?"},
                ],
            },
            [
                SourceMessage("tool", "sunny", (), None, "f"),
                SourceMessage("tool", '{"t":1}', (), "c2", "f"),
                SourceMessage("tool", '{"error":"no"}', (), None, "g"),
                SourceMessage("user", "And now?"),
            ],
        ),
        (
            {"role": "function", "parts": [{"functionResponse": {"name": "f"}}]},
            [SourceMessage("tool", "", (), None, "f")],
        ),
        ({"role": "user", "parts": [{"holo": 1}]}, [SourceMessage("user", "[holo]")]),
        (None, []),
    ],
)
def test_the_contents_of_a_request(content: Any, messages: list[SourceMessage]) -> None:
    """Words, media and results of functions, several in one content."""
    assert list(GENERATE.read(content)) == messages


def test_chunks_that_a_chat_resends_are_one_answer() -> None:
    """A chat keeps a streamed answer as one content for each chunk: it is read, and recognised, as one message."""
    question = {"parts": [{"text": "Hi"}], "role": "user"}
    chunks = [{"parts": [part], "role": "model"} for part in ({"text": "Hel"}, {"text": "lo"}, CALL)]
    thought = {"parts": [{"text": "Hm", "thought": True, "thoughtSignature": "e"}], "role": "model"}
    once = {"parts": [{"text": "Hello"}, CALL], "role": "model"}
    contents = whole([question, thought, *chunks, question])
    assert len(contents) == 3
    assert GENERATE.fingerprint(contents) == GENERATE.fingerprint([question, once, question])
    (answered_with,) = GENERATE.read(contents[1])
    assert (answered_with.text, answered_with.calls) == ("Hello", (WEATHER,))
    assert GENERATE.echo is not None
    assert GENERATE.fingerprint([GENERATE.echo(answered_with)]) == GENERATE.fingerprint([once])
    plain = [question, {"parts": [{"text": "Hello"}], "role": "model"}]
    assert whole(plain) is plain


def test_results_get_the_ids_of_their_calls() -> None:
    """Automatic function calling leaves them out: results belong to the open calls of their names, in order."""

    def calls(*ids: str | None) -> dict[str, Any]:
        return {"role": "model", "parts": [{"functionCall": {"name": "f", "id": one, "args": {}}} for one in ids]}

    def results(*ids: str | None) -> dict[str, Any]:
        made = [{"name": "f", "response": {"result": "r"}, **({"id": one} if one else {})} for one in ids]
        return {"role": "user", "parts": [{"functionResponse": one} for one in made]}

    contents = [calls("a", "b"), results("b", None), calls("c", None), results(None, None, None)]
    before = json.dumps(contents)
    found = [[m.call_id for m in GENERATE.read(content)] for content in whole(contents)[1::2]]
    assert found == [["b", "a"], ["c", None, None]]
    assert json.dumps(contents) == before


@pytest.mark.parametrize(
    "content", [None, 7, {}, {"parts": None}, {"parts": [None]}, {"role": 3, "parts": [{"text": 1}]}]
)
def test_odd_contents_have_fingerprints(content: Any) -> None:
    """One integer each, and no exception."""
    assert [type(one) for one in GENERATE.fingerprint([content])] == [int]
    assert GENERATE.read(content) is not None
