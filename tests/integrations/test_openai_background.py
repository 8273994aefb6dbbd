"""Background responses, end to end: what is stored when they are retrieved, here or elsewhere, or by nobody."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from converra.capture.recorder import Recorder
from converra.config import load
from converra.integrations.stainless import background
from converra.server.run import serve
from tests import warm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.handle import Conversation
    from converra.server.run import LocalServer

HI = "Hi [[say:Hello]]"
LATER: Any = {"background": True}


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture
def recorder(server: LocalServer) -> Iterator[Recorder]:
    background._waiting.clear()
    background._recorded.clear()
    made = Recorder(load({"api_key": "k", "base_url": server.base_url, "flush_interval": 60}, {}))
    made.instrument()
    yield made
    made.uninstrument()
    made.shutdown(5)


@pytest.fixture
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    bare = openai.DefaultHttpxClient(verify=False)
    with openai.OpenAI(api_key="k", base_url=server.openai_url, max_retries=0, http_client=bare) as made:
        yield made


def asked(client: openai.OpenAI, words: str = HI, **more: Any) -> str:
    """The id of a response that was put off."""
    return str(client.responses.create(model="m", input=words, extra_body=LATER, **more).id)


def answered(client: openai.OpenAI, response_id: str) -> None:
    """Ask for a response until it is done, and once more."""
    while client.responses.retrieve(response_id).status != "completed":
        time.sleep(0.001)
    client.responses.retrieve(response_id)


def stored(server: LocalServer, recorder: Recorder, talk: Conversation) -> tuple[str, list[dict[str, Any]]]:
    """The status of a conversation, and its messages."""
    assert recorder.flush(timeout=20)
    found = server.store.find(None, talk.id or "")
    assert found is not None
    return found.status, server.store.messages(found)


def words(messages: list[dict[str, Any]]) -> list[str]:
    return [message["content"] for message in messages if message["role"] != "system"]


def test_the_question_is_stored_when_its_block_ends(
    server: LocalServer, recorder: Recorder, client: openai.OpenAI
) -> None:
    """It does not wait for the answer; that completes the conversation whenever it comes, once, with its usage."""
    with recorder.conversation("prompt_1") as talk:
        response_id = asked(client)
    deadline = time.monotonic() + 10
    while talk.id is None and time.monotonic() < deadline:
        time.sleep(0.01)
    found = server.store.find(None, talk.id or "")
    assert found is not None
    assert words(server.store.messages(found)) == [HI]
    assert found.status in ("active", "in_progress")
    answered(client, response_id)
    status, messages = stored(server, recorder, talk)
    assert status == "completed"
    assert words(messages) == [HI, "Hello"]
    answer = messages[1]
    assert answer["usage"]["completionTokens"] > 0
    assert answer["latencyMs"] > 0


def test_in_the_order_in_which_things_were_said(server: LocalServer, recorder: Recorder, client: openai.OpenAI) -> None:
    """Questions stand where they were asked, answers where they came."""
    with recorder.conversation("prompt_1") as talk:
        first, second = asked(client), asked(client, "Well? [[say:Well]]")
        client.responses.create(model="m", input="And now? [[say:Now]]")
        answered(client, second)
        client.responses.create(model="m", input="More [[say:Yes]]", previous_response_id=second)
        answered(client, first)
    status, messages = stored(server, recorder, talk)
    assert status == "completed"
    assert words(messages) == [
        HI,
        "Well? [[say:Well]]",
        "And now? [[say:Now]]",
        "Now",
        "Well",
        "More [[say:Yes]]",
        "Yes",
        "Hello",
    ]


def test_history_that_is_resent(server: LocalServer, recorder: Recorder, client: openai.OpenAI) -> None:
    """A question that is sent again with its answer is recorded once."""
    with recorder.conversation("prompt_1") as talk:
        answered(client, asked(client, instructions="Be brief."))
        again: Any = [
            {"role": "user", "content": HI},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Bye [[say:Bye]]"},
        ]
        answered(client, client.responses.create(model="m", input=again, instructions="Be brief.", extra_body=LATER).id)
    _, messages = stored(server, recorder, talk)
    assert [m["content"] for m in messages] == ["Be brief.", HI, "Hello", "Bye [[say:Bye]]", "Bye"]


def test_one_that_was_given_up(
    server: LocalServer, recorder: Recorder, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversation that is completed takes no answer: it goes where it is retrieved, and names its response."""
    monkeypatch.setattr(background, "MAX_WAITING", 0)
    with recorder.conversation("prompt_1") as before:
        response_id = asked(client)
    with recorder.conversation("prompt_1") as after:
        answered(client, response_id)
    status, messages = stored(server, recorder, before)
    assert (status, words(messages)) == ("completed", [HI, "(no text: queued)"])
    assert messages[-1]["metadata"]["responseId"] == response_id
    status, found = stored(server, recorder, after)
    assert (status, words(found)) == ("completed", ["Hello"])
    answer = next(message for message in found if message["role"] == "assistant")
    assert answer["metadata"]["responseId"] == response_id
    assert "latencyMs" not in answer


@pytest.mark.parametrize("use", ["retrieve", "stored"])
def test_what_is_no_answer(use: str, server: LocalServer, recorder: Recorder, client: openai.OpenAI) -> None:
    """Retrieving a response that was recorded when it was made, or one that is still at work, is no turn."""
    with recorder.conversation("prompt_1") as talk:
        made = client.responses.create(model="m", input=HI) if use == "stored" else None
        response_id = made.id if made else asked(client)
        background._waiting.clear()
        client.responses.retrieve(response_id)
    if use == "retrieve":
        assert background._recorded == {}
    else:
        assert words(stored(server, recorder, talk)[1]) == [HI, "Hello"]


# -- in several processes ----------------------------------------------------------------------------------------------

PROGRAM = """
import sys, time
import converra
from openai import OpenAI

HI = "Hi [[say:Hello]]"

def ask(words=HI):
    return OpenAI().responses.create(model="m", input=words, extra_body={"background": True}).id

def retrieve(response_id):
    while OpenAI().responses.retrieve(response_id).status != "completed":
        time.sleep(0.001)
    OpenAI().responses.retrieve(response_id)

def session():
    return converra.conversation("prompt_1", session_id="s", keep_open=True)

"""


def _run(server: LocalServer, program: str, *arguments: str, status: int = 0) -> str:
    environment = {
        **os.environ,
        "CONVERRA_API_KEY": "k",
        "CONVERRA_BASE_URL": server.base_url,
        "OPENAI_BASE_URL": server.openai_url,
        "OPENAI_API_KEY": "k",
    }
    done = warm.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        modules=warm.OPENAI,
    )
    assert done.returncode == status, done.stderr
    assert "converra" not in done.stderr, done.stderr
    return str(done.stdout.strip())


ASK = """
converra.instrument()
with session():
    print(ask())
"""


def test_another_process_brings_the_answer(server: LocalServer) -> None:
    """In a session that is kept open the answer goes to the same conversation, whoever retrieves it, once."""
    response_id = _run(server, ASK)
    retrieve = """
        converra.instrument()
        with session():
            retrieve(sys.argv[1])
    """
    _run(server, retrieve, response_id)
    _run(
        server,
        "converra.instrument()\nwith session():\n    OpenAI().responses.create(model='m', input='Bye [[say:Bye]]')",
    )
    _run(server, "converra.instrument()\nconverra.complete('prompt_1', 's')")
    (conversation,), _ = server.store.conversations()
    messages = server.store.messages(conversation)
    assert conversation.status == "completed"
    assert words(messages) == [HI, "Hello", "Bye [[say:Bye]]", "Bye"]
    assert messages[1]["usage"]["completionTokens"] > 0
    assert messages[1]["metadata"]["responseId"] == response_id


def test_the_process_that_asked_goes_on(server: LocalServer) -> None:
    """It may itself retrieve the answer, in another block of the session or in none."""
    _run(
        server,
        """
        converra.instrument()
        with session():
            first = ask()
        retrieve(first)
        with session():
            second = ask("Well? [[say:Well]]")
        with session():
            retrieve(second)
        converra.complete("prompt_1", "s")
        """,
    )
    (conversation,), _ = server.store.conversations()
    assert conversation.status == "completed"
    assert words(server.store.messages(conversation)) == [HI, "Hello", "Well? [[say:Well]]", "Well"]


def test_a_conversation_that_is_over_elsewhere(server: LocalServer) -> None:
    """Without a session the question is completed at exit; another process records the answer for itself."""
    response_id = _run(server, "converra.instrument()\nwith converra.conversation('prompt_1'):\n    print(ask())")
    _run(server, "converra.instrument('prompt_1')\nretrieve(sys.argv[1])", response_id)
    later, before = server.store.conversations()[0]
    assert words(server.store.messages(before)) == [HI, "(no text: queued)"]
    assert words(server.store.messages(later)) == ["Hello"]
    assert (before.status, later.status) == ("completed", "completed")
    answer = next(message for message in server.store.messages(later) if message["role"] == "assistant")
    assert answer["metadata"]["responseId"] == response_id
    assert answer["usage"]["completionTokens"] > 0


@pytest.mark.parametrize("killed", [False, True])
def test_an_implicit_conversation(*, killed: bool, server: LocalServer) -> None:
    """The question is stored within the flush interval, also where the process is killed then."""
    end = "print(flush=True); os.kill(os.getpid(), signal.SIGKILL)" if killed else "retrieve(response_id)"
    program = f"""
        import os, signal
        converra.instrument("prompt_1", flush_interval=0.05)
        response_id = ask()
        deadline = time.monotonic() + 10
        while not converra.stats().delivered and time.monotonic() < deadline:
            time.sleep(0.01)
        {end}
    """
    _run(server, program, status=-9 if killed else 0)
    (conversation,), _ = server.store.conversations()
    assert words(server.store.messages(conversation)) == ([HI] if killed else [HI, "Hello"])
