"""The state of a delivery, as a durable outbox keeps it from one process to the next, and the messages that wait."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from converra.delivery.header import Header
from converra.delivery.protocol import requests
from converra.delivery.protocol.entry import entry
from converra.delivery.protocol.progress import Batch, Opening, OpeningForm, Progress, State
from converra.wire.details import CONTENT_FIELDS
from converra.wire.json_safe import encode
from converra.wire.models import Message, ToolCall, Usage

WRITTEN_BEFORE = (
    b'{"part":1,"id":null,"previous":null,"count":0,"weight":0,"appended":0,"metadata":{"a":1},"annotations":{"a":1},'
    b'"opening":{"entries":0,"status":"active","form":"neutral","ids":["m1"]},"unsettled":null,"again":false,'
    b'"form":"whole","joining":true,"suspects":0,"most":500,"closed":false}'
)


DEFAULTS: dict[str, Any] = {
    "part": 1,
    "id": None,
    "previous": None,
    "count": 0,
    "weight": 0,
    "appended": 0,
    "metadata": {},
    "annotations": {},
    "owed": [],
    "late_errors": {},
    "opening": None,
    "unsettled": None,
    "again": False,
    "form": OpeningForm.WITH_MESSAGES,
    "opener_unknown": False,
    "suspects": 0,
    "most": 500,
    "closed": False,
}
"""Values that are left out where a state is written: they belong to the form, and do not change."""


def test_a_state_written_by_an_earlier_version_is_read() -> None:
    """An upgrade keeps what waits in a durable outbox: names and values of its states do not change, some are added."""
    state = msgspec.json.decode(WRITTEN_BEFORE, type=State)
    assert state.opening == Opening(0, "active", OpeningForm.WITHOUT_MESSAGES, ("m1",))
    assert state.form is OpeningForm.WITH_MESSAGES
    before = msgspec.json.decode(WRITTEN_BEFORE)
    written = msgspec.json.decode(encode(state))
    assert written == {name: value for name, value in before.items() if name in written}
    assert {field.encode_name for field in msgspec.structs.fields(State)} == before.keys() | {"late_errors", "owed"}
    assert msgspec.structs.asdict(msgspec.json.decode(b"{}", type=State)) == DEFAULTS


@pytest.mark.parametrize("form", OpeningForm)
def test_a_state_survives_the_process(form: OpeningForm) -> None:
    """What is written down is read back the same."""
    state = State(id="c", form=form, opening=Opening(2, "active", form, ("m1", "m2")), unsettled=Batch(1, ids=("m3",)))
    assert msgspec.json.decode(encode(state), type=State) == state


# waiting messages

FIELDS: dict[str, dict[str, Any]] = {
    "content only": {},
    "all of a create": {"timestamp": datetime(2026, 1, 2, tzinfo=UTC), "model": "gpt", "tokens": 3},
    "metadata": {"metadata": {"messageId": "m1", "finishReason": "length"}},
    "usage and latency": {"model": "gpt", "usage": Usage(1, 2), "latency_ms": 3.5},
    "tool calls": {"tool_calls": [ToolCall(id="c", name="f", arguments={"a": [1]})]},
    "tool calls of other fields": {"tool_calls": [{"id": "c", "extra": {"a": 1}}], "metadata": {}},
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
def test_a_message_is_encoded_in_two_parts(fields: dict[str, Any]) -> None:
    """Together they are the message as an append sends it; the first is what a create's content has a place for."""
    message = Message(role="assistant", content='"Grüße", {brace}\n', **fields)
    made = entry(message, 0.0)
    whole = json.loads(encode(message))
    content, rest = (json.loads(part or b"{}") for part in made.apart())
    assert made.raw == encode(message)
    assert (content, rest) == (
        {name: value for name, value in whole.items() if name in CONTENT_FIELDS},
        {name: value for name, value in whole.items() if name not in CONTENT_FIELDS},
    )
    assert entry(message, 0.0, raw=made.raw) == made


def test_a_message_from_a_file_keeps_what_was_written() -> None:
    """Tool calls with fields of their own are not changed by being read again, whatever the order of the fields."""
    body = b'{"metadata":{"messageId":"m"},"role":"tool","toolCalls":[{"id":"c","extra":1}],"content":""}'
    made = entry(msgspec.json.decode(body, type=Message), 0.0, raw=body)
    assert made.apart() == (
        b'{"role":"tool","content":""}',
        b'{"metadata":{"messageId":"m"},"toolCalls":[{"id":"c","extra":1}]}',
    )
    assert json.loads(made.raw) == json.loads(body)


def test_a_create_decodes_none_of_its_messages() -> None:
    """It is put together from the encoded bytes: even such as are no JSON would be sent."""
    progress = Progress(Header(key="k", prompt_id="p"))
    made = entry(Message(role="user", content="?", usage=Usage(1, 2), model="gpt"), 0.0)
    unreadable = made.raw.replace(b'"?"', b"???").replace(b'{"promptTokens"', b"!!!")
    progress.entries.append(msgspec.structs.replace(made, raw=unreadable, details_at=made.details_at))
    body = json.loads(requests.create(progress, Opening(1, "active")).body or b"")
    assert body["content"] == (
        '{"messages":[{"role":"user","content":???,"model":"gpt"}],'
        '"metadata":{"messageDetails":{"0":{"usage":!!!:1,"completionTokens":2}}}}}'
    )
