"""Digests of messages: the same message sent again has the same, another one another."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from converra.integrations.payload.fields import fingerprint
from tests.integrations.chat_scripts import tool_call

MESSAGES: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Be brief."}]},
    {"role": "user", "content": [{"type": "text", "text": "Be brief!"}]},
    {"role": "user", "content": "Be brief.", "name": "Ada"},
    {"role": "assistant", "content": None, "tool_calls": [tool_call(1, "f", "{}")]},
    {"role": "assistant", "content": "Hm.", "tool_calls": [tool_call(1, "f", "{}")]},
    {"role": "assistant", "content": None, "tool_calls": [tool_call(2, "f", "{}")]},
    {"role": "assistant", "content": None, "tool_calls": [tool_call(1, "f", '{"a": 1}')]},
    {"role": "assistant", "content": None, "tool_calls": [{"type": "custom", "custom": {"name": "f"}}]},
    {"role": "assistant", "content": None, "tool_calls": None},
    {"role": "assistant", "content": None},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_2", "content": "sunny"},
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sunny"}]},
    {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "{}"},
    {"type": "item_reference", "id": "msg_1"},
    "a string",
    7,
    None,
    [],
    {},
]


def test_the_same_again() -> None:
    """A copy of a message has its digest; all others have another."""
    digests = fingerprint(MESSAGES)
    assert fingerprint(copy.deepcopy(MESSAGES)) == digests
    assert [fingerprint([message])[0] for message in MESSAGES] == digests
    assert len(set(digests)) == len(MESSAGES)


def test_what_cannot_be_hashed() -> None:
    """Objects and depths that nobody sends do no harm."""
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    strange = [{"role": {"a"}, "content": bytearray()}, {"role": "user", "content": deep}, {"role": "user"}]
    assert len(fingerprint(strange)) == 3


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(values | st.fixed_dictionaries({"role": values, "content": values}), max_size=5))
def test_anything_can_be_looked_at(messages: list[Any]) -> None:
    """Whatever JSON holds has a digest, the same for a copy."""
    assert [d for d, m in zip(fingerprint(messages), messages, strict=True) if m == m] == [  # noqa: PLR0124 - not for NaN
        d
        for d, m in zip(fingerprint(copy.deepcopy(messages)), messages, strict=True)
        if m == m  # noqa: PLR0124 - as above
    ]
