"""A conversation as a test: the model says again what it said, and the app must do again what it did."""

from __future__ import annotations

import json
import pprint
import re
from typing import TYPE_CHECKING, Any

from converra.errors import InvalidArgumentError
from converra.wire.models import is_added

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.api.results import StoredConversation, StoredMessage

_FILE = '''\
"""Conversations that were recorded, as tests: the model answers as it did, and the app has to ask as it did.

`app` stands for your app, and must reach the model through the openai package. As it is, it makes the recorded calls
again, so the test passes: put your own app in its place.
"""

import contextlib

import openai
import pytest

import converra
from converra.testing import RecordedModel

{left_out}RECORDED = {recorded}


def app(questions, recorded):
    """Replace this: give each of the questions to your app, as a user does."""
    client = openai.OpenAI()
    for messages in recorded.requests:
        with contextlib.suppress(openai.BadRequestError):  # a call that got no answer gets none
            client.chat.completions.create(model=recorded.model, messages=messages)


@pytest.mark.parametrize("name", RECORDED)
def test_the_app_behaves_as_recorded(name, converra_capture, monkeypatch):
    with RecordedModel(RECORDED[name]["messages"]) as recorded:
        monkeypatch.setenv("OPENAI_BASE_URL", recorded.url)
        monkeypatch.setenv("OPENAI_API_KEY", "recorded")
        with converra.conversation(RECORDED[name]["prompt_id"]):
            app(recorded.questions, recorded)
    assert converra_capture.only().said == recorded.said
    assert [(call.name, call.arguments) for call in converra_capture.only().tool_calls] == recorded.tool_calls
'''

_KEPT = ("role", "content", "toolCalls", "model")


def source(conversations: Sequence[StoredConversation]) -> str:
    """The test file; it needs the pytest plugin and the openai package, no key and no network."""
    obstacles = {each.id: obstacle for each in conversations if (obstacle := _obstacle(each))}
    if len(obstacles) == len(conversations):
        reasons = "; ".join(f"{name} {obstacle}" for name, obstacle in obstacles.items())
        raise InvalidArgumentError(f"no test can be made: {reasons}")
    recorded = {
        _name(conversation): {"prompt_id": conversation.prompt_id, "messages": _messages(conversation)}
        for conversation in conversations
        if conversation.id not in obstacles
    }
    literal = pprint.pformat(recorded, width=100, sort_dicts=False)
    left_out = "".join(f"# Left out: {name} {obstacle}.\n" for name, obstacle in obstacles.items())
    return _FILE.format(recorded=literal, left_out=left_out)


def _obstacle(conversation: StoredConversation) -> str | None:
    """Return the reason why a model of chat completions cannot give the recorded answers; None if it can."""
    if not conversation.shows_messages:
        return "has messages that the API does not show"
    messages = [
        message for message in conversation.messages if not is_added(message.role, message.content, message.metadata)
    ]
    if not messages:
        return "has no messages"
    return next(filter(None, map(_oddity, messages)), None)


def _oddity(message: StoredMessage) -> str | None:
    made = [call for call in message.tool_calls or () if call.arguments is not None]
    if made and message.role == "tool" and message.content:
        return "has a tool message with both calls and text"
    if not all(isinstance(call.name, str) and call.name for call in made):
        return "has a tool call without a name"
    if not all(isinstance(call.arguments, dict) or _is_no_object(call.arguments) for call in made):
        return "has a tool call whose arguments would be read back differently"
    return None


def _is_no_object(arguments: Any) -> bool:
    """Return True for a string that a recorder keeps as it is, because it is no JSON object."""
    try:
        return isinstance(arguments, str) and not isinstance(json.loads(arguments), dict)
    except ValueError:
        return True


def _messages(conversation: StoredConversation) -> list[dict[str, Any]]:
    return [
        _kept(message)
        for message in conversation.messages
        if not is_added(message.role, message.content, message.metadata)
    ]


def _kept(message: StoredMessage) -> dict[str, Any]:
    whole = message.to_dict()
    return {name: whole[name] for name in _KEPT if name in whole}


def _name(conversation: StoredConversation) -> str:
    return re.sub(r"\W", "_", conversation.id or "conversation")
