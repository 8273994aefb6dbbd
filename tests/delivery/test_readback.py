"""An unsettled request is decided by whatever part of the conversation an answer shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from converra.api.results import StoredConversation
from converra.delivery.header import Header
from converra.delivery.protocol import readback
from converra.delivery.protocol.entry import EncodedMessage, entry
from converra.delivery.protocol.progress import Batch, Progress, State
from converra.wire.models import Message, Usage


def _entry(role: str, content: str, identifier: str) -> EncodedMessage:
    usage = Usage(1, 2) if role == "assistant" else None
    return entry(Message(role=role, content=content, usage=usage, metadata={"messageId": identifier}), 0.0)  # type: ignore[arg-type]


def _progress(*, appended: int = 2, shared: bool = False) -> Progress:
    """Two messages were appended before; two more are in question."""
    state = State(id="c", count=1 + appended, appended=appended)
    progress = Progress(Header(key="k", prompt_id="p", shared=shared), "w" if shared else "", state)
    progress.entries.extend([_entry("user", "more?", "m3"), _entry("assistant", "more.", "m4")])
    return progress


def _batch(progress: Progress, *, completes: bool = False) -> Batch:
    counter = {progress.counter: progress.state.appended + 2}
    return Batch(entries=2, ids=("m3", "m4"), metadata=counter, completes=completes)


def _shown(*identifiers: str | None) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x", "metadata": {"messageId": i} if i else {}} for i in identifiers]


def _structured(*texts: str, **metadata: str) -> str:
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"messages": messages, "metadata": metadata})


STORED: dict[str, tuple[dict[str, Any], dict[str, Any], bool | None]] = {
    "its messages": ({}, {"messages": _shown(None, "m1", "m2", "m3", "m4")}, True),
    "others' messages": ({}, {"messages": _shown(None, "m1", "m2")}, False),
    "as many as before": ({"appended": 0}, {"messages": _shown(None)}, False),
    "more than before": ({"appended": 0}, {"messages": _shown(None, None, None)}, True),
    "messages without ids, but the counter": (
        {},
        {"messages": _shown(None, None, None), "metadata": {"sdkDelivered": 4}},
        True,
    ),
    "the counter of before": ({}, {"metadata": {"sdkDelivered": 2}}, False),
    "the counter of a joiner": ({"shared": True}, {"metadata": {"sdkDelivered.w": 4, "sdkDelivered.v": 1}}, True),
    "the counter of another joiner": ({"shared": True, "appended": 0}, {"metadata": {"sdkDelivered.v": 9}}, False),
    "metadata that lost the counter": ({}, {"metadata": {"a": 1}}, None),
    "completed": ({"completes": True}, {"status": "completed"}, True),
    "not completed": ({"completes": True}, {"status": "active"}, False),
    "completed by whom?": ({"completes": True, "shared": True}, {"status": "completed"}, None),
    "its words at the end": ({}, {"content": "User: hi\nUser: more?\nAssistant: more.\n"}, True),
    "not all its words": ({}, {"content": "User: hi\nAssistant: more."}, False),
    "other words": ({}, {"content": "User: hi"}, False),
    "its words, and others' after them": (
        {"shared": True},
        {"content": "User: more?\nAssistant: more.\nUser: other"},
        None,
    ),
    "others' words": ({"shared": True}, {"content": "User: other"}, False),
    "its words in JSON": ({}, {"content": _structured("hi", "more?", "more.")}, True),
    "other words in JSON": ({}, {"content": _structured("more?", "more.", "hi")}, False),
    "broken JSON": ({}, {"content": '{"messages": '}, False),
    "nothing": ({}, {"status": "active"}, None),
}


@pytest.mark.parametrize(("case", "answer", "expected"), STORED.values(), ids=STORED)
def test_whether_an_append_was_stored(case: dict[str, Any], answer: dict[str, Any], expected: bool | None) -> None:
    """Ids before the counter, the counter before the status, the status before the words; and None if undecided."""
    progress = _progress(**{name: value for name, value in case.items() if name != "completes"})
    batch = _batch(progress, completes="completes" in case)
    found = readback.is_stored(StoredConversation.from_dict(answer), progress, batch)
    assert found is expected


OURS: dict[str, tuple[dict[str, Any], bool]] = {
    "our id": ({"metadata": {"sdkOpenedBy": "w"}}, True),
    "another's id": ({"metadata": {"sdkOpenedBy": "v"}, "messages": _shown(None)}, False),
    "our id in the content": ({"content": _structured("more?", sdkOpenedBy="w")}, True),
    "another's id in the content": ({"content": _structured("more?", sdkOpenedBy="v")}, False),
    "our words first": ({"messages": [{"role": "user", "content": "more?"}, *_shown("x")]}, True),
    "other words first": ({"messages": _shown("x")}, False),
    "our words first in the text": ({"content": "User: more?\nUser: x"}, True),
    "our words later in the text": ({"content": "User: some other words\nUser: more?"}, False),
    "other words in the text": ({"content": "User: x"}, False),
    "our words in JSON": ({"content": _structured("more?")}, True),
    "other words in JSON": ({"content": _structured("x")}, False),
    "nothing": ({}, False),
}


@pytest.mark.parametrize(("answer", "expected"), OURS.values(), ids=OURS)
def test_whether_our_create_made_the_conversation(answer: dict[str, Any], expected: bool) -> None:
    """By the opener's id in the metadata; if that is not shown, by the texts."""
    progress = _progress(shared=True)
    opening = [_entry("user", "more?", "m3")]
    assert readback.is_ours(StoredConversation.from_dict(answer), progress, opening) is expected
