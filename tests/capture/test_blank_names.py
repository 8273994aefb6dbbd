"""An optional name that the API would reject costs no conversation, wherever it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from converra.api.client import Converra
from converra.cli.pushing import Push, Recorded
from converra.delivery.header import Header
from converra.delivery.protocol import requests
from converra.delivery.protocol.entry import entry
from converra.delivery.protocol.progress import Opening, Progress
from converra.history.turn import Answer, Request, Scope, SourceMessage
from converra.integrations.openai.chat import CHAT
from converra.server.run import LocalServer, serve
from converra.wire.models import Message
from tests.integrations.stored import recorder_for
from tests.patience import LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

BLANK = ("", " \n", None)
SAID = ["Hi", "Hello"]


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


def _only(server: LocalServer, prompt_id: str) -> Any:
    """The one conversation of a prompt, with all that was said."""
    (found,), _ = server.store.conversations(prompt_id=prompt_id)
    assert [message["content"] for message in server.store.messages(found)] == SAID
    return found


def test_names_of_the_app_and_of_providers(server: LocalServer) -> None:
    """A blank company, model or framework's session counts as not given; broken text in one is replaced."""
    with recorder_for(server, prompt_id="prompt_framework") as recorder:
        for number, (name, kept) in enumerate([*((blank, None) for blank in BLANK), (" \ud800Acme ", "\ufffdAcme")]):
            prompt = f"prompt_{number}"
            with recorder.conversation(prompt, company_name=name) as conversation:
                conversation.add_message("user", SAID[0])
                conversation.add_message("assistant", SAID[1], model=name)
            assert recorder.flush(LONG)
            found = _only(server, prompt)
            named = (found.llm_model or "").strip() or None
            assert (found.company_name, named, found.status) == (kept, kept, "completed"), name
        question = {"role": "user", "content": SAID[0]}
        call = recorder.capture.begin(Request(CHAT, [question], model=" ", scope=Scope("  ")))
        assert call is not None
        call.end(Answer((SourceMessage("assistant", SAID[1]),), model=" "))
        assert recorder.flush(LONG)
        assert "sessionId" not in _only(server, "prompt_framework").metadata
        assert recorder.stats().rejected == 0


def test_names_that_are_stored_already(server: LocalServer) -> None:
    """Names that an outbox file or a local store holds from before are left out where they are blank."""
    progress = Progress(Header(key="k", prompt_id="prompt_1", company_name=" "))
    progress.entries.append(
        entry(Message(role="assistant", content="Hello", model=" ", metadata={"messageId": "m"}), 0.0)
    )
    created = requests.create(progress, Opening(1, "active"))
    assert created.body is not None
    assert b"companyName" not in created.body
    assert b"llmModel" not in created.body
    words = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), SAID, strict=True)]
    with Converra(api_key="k", base_url=server.base_url) as client:
        recorded = Recorded("conv_1", "prompt_pushed", "completed", " ", "", {}, words)
        Push(client.conversations, recorded, sleep=lambda _: None).run(lambda _: None)
    assert _only(server, "prompt_pushed").company_name is None
