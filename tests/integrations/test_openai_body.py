"""Answers as bytes: JSON and events, in any pieces, whole or cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converra.integrations.openai.chat import answer
from converra.integrations.openai.chat_chunks import ChatChunks
from converra.integrations.stainless.request import BodyPieces, events
from tests.integrations.chat_scripts import TEXT_CHUNKS, completion
from tests.integrations.recording import bare
from tests.integrations.scripted import stream

WHOLE = json.dumps(completion({"content": "Hello there!"})).encode()
EVENTS = b"".join(stream(*TEXT_CHUNKS).pieces)


def read(*chunks: bytes) -> BodyPieces:
    pieces = BodyPieces(answer, ChatChunks)
    for chunk in chunks:
        pieces.feed(chunk)
    return pieces


@given(st.sampled_from([WHOLE, EVENTS]), st.lists(st.integers(0, len(WHOLE)), max_size=5))
def test_any_pieces(body: bytes, cuts: list[int]) -> None:
    """However the network cuts a body, the answer is the same."""
    places = [0, *sorted(cuts), len(body)]
    pieces = read(*[body[a:b] for a, b in itertools.pairwise(places)])
    assert pieces.answer().messages[0].text == "Hello there!"
    assert pieces.finished


def test_only_events_have_a_first_token() -> None:
    """A body that is one document has no first token; events have, with the first that brings a word."""
    first, second, *_ = stream(*TEXT_CHUNKS).pieces
    assert not read(WHOLE[:9], WHOLE[9:]).started
    assert not read(first, second[:-1]).started  # the role alone, and a word that is cut
    assert read(first, second[:-1], second[-1:]).started
    assert read(first + second.replace(b"\n", b"\r\n")).started


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (b"", {"messages": [{"role": "assistant"}]}),
        (WHOLE[:40], {"metadata": {"error": {"type": "NoAnswer"}}}),
        (b"<html>", {"metadata": {"error": {"type": "NoAnswer"}}}),
        (b"\xff\xfe", {"metadata": {"error": {"type": "NoAnswer"}}}),
        (b'{"error": {"code": "c"}}', {"metadata": {"error": {"type": "c"}}}),
    ],
)
def test_a_body_without_an_answer(body: bytes, facts: dict[str, Any]) -> None:
    """Nothing, half a document, a page of a gateway: a turn without words, and not finished if cut."""
    pieces = read(body)
    assert bare(pieces.answer()) == facts


def test_events_as_the_standard_has_them() -> None:
    """Comments, other fields, data over several lines, any line ending; what is no JSON is passed over."""
    body = b': hi\r\nevent: a\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:[2]\n\ndata: [DONE]\n\ndata: {"cut'
    assert list(events(body)) == [{"a": 1}, [2]]
