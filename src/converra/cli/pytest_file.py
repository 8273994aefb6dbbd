"""A conversation as a test: the model says again what it said, and the app must do again what it did."""

from __future__ import annotations

import pprint
import re
from typing import TYPE_CHECKING, Any

from converra.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converra.api.results import StoredConversation, StoredMessage

_FILE = '''\
"""Conversations that were recorded, as tests: the model answers as it did, and the app has to ask as it did.

`app` stands for your app. It is given the words of the user, turn by turn, and must reach the model through the openai
package. As it is, it runs the recorded tools again, so the test passes: put your own app in its place.
"""

import openai
import pytest

import converra
from converra.testing import RecordedModel

RECORDED = {recorded}


def app(questions, recorded):
    """Replace this: for each question, call your app as a user does."""
    client = openai.OpenAI()
    history = [message for message in recorded.opening]
    for question in questions:
        history.append({{"role": "user", "content": question}})
        while True:
            answer = client.chat.completions.create(model=recorded.model, messages=history).choices[0].message
            history.append(answer)
            if not answer.tool_calls:
                break
            history += [recorded.result(call.id) for call in answer.tool_calls]


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
    recorded = {
        _name(conversation): {"prompt_id": conversation.prompt_id, "messages": _messages(conversation)}
        for conversation in conversations
    }
    literal = pprint.pformat(recorded, width=100, sort_dicts=False)
    return _FILE.format(recorded=literal)


def _messages(conversation: StoredConversation) -> list[dict[str, Any]]:
    if not conversation.messages:
        raise InvalidArgumentError(
            f"the API does not show the messages of {conversation.id}, so no test can be made of it"
        )
    return [_kept(message) for message in conversation.messages if not _is_ours(message)]


def _kept(message: StoredMessage) -> dict[str, Any]:
    whole = message.to_dict()
    return {name: whole[name] for name in _KEPT if name in whole}


def _is_ours(message: StoredMessage) -> bool:
    """The message that only carries the end of a conversation."""
    return (message.role, message.content) == ("system", "Conversation ended.")


def _name(conversation: StoredConversation) -> str:
    return re.sub(r"\W", "_", conversation.id or "conversation")
