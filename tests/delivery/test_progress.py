"""The state of a delivery, as a durable outbox keeps it from one process to the next."""

from __future__ import annotations

import msgspec
import pytest

from converra.delivery.protocol.progress import Batch, Opening, OpeningForm, State
from converra.wire.models import encode

WRITTEN_BEFORE = (
    b'{"part":1,"id":null,"previous":null,"count":0,"weight":0,"appended":0,"metadata":{"a":1},"annotations":{"a":1},'
    b'"opening":{"entries":0,"status":"active","form":"neutral","ids":["m1"]},"unsettled":null,"again":false,'
    b'"form":"whole","joining":true,"suspects":0,"most":500,"closed":false}'
)


def test_a_state_written_by_an_earlier_version_is_read() -> None:
    """An upgrade keeps what waits in a durable outbox: the names and values of its states do not change."""
    state = msgspec.json.decode(WRITTEN_BEFORE, type=State)
    assert state.opening == Opening(0, "active", OpeningForm.WITHOUT_MESSAGES, ("m1",))
    assert state.form is OpeningForm.WITH_MESSAGES
    assert encode(state) == WRITTEN_BEFORE


@pytest.mark.parametrize("form", OpeningForm)
def test_a_state_survives_the_process(form: OpeningForm) -> None:
    """What is written down is read back the same."""
    state = State(id="c", form=form, opening=Opening(2, "active", form, ("m1", "m2")), unsettled=Batch(1, ids=("m3",)))
    assert msgspec.json.decode(encode(state), type=State) == state
