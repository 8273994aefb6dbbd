"""The endpoints of the API document, answer by answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from inline_snapshot import snapshot

from converra.server.run import serve
from converra.server.store.conversations import Store
from tests.server.conftest import client

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from converra.server.run import LocalServer

NOON = 1_737_374_400.0  # 2025-01-20T12:00:00Z
HELLO = {"promptId": "prompt_123", "content": "User: Hello, I need help\nAssistant: Hi! How can I help you today?"}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[LocalServer]:
    with serve(store=Store(clock=clock)) as running:
        yield running
        running.store.close()


def created(http: httpx.Client, **fields: Any) -> str:
    answer = http.post("/conversations", json=HELLO | fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def append(http: httpx.Client, conversation_id: str, *texts: str, **fields: Any) -> httpx.Response:
    messages = [{"role": "user", "content": text} for text in texts]
    return http.post(f"/conversations/{conversation_id}/messages", json={"messages": messages} | fields)


def test_create_answers_as_the_document_shows(http: httpx.Client) -> None:
    """A new conversation is answered with its id, status, time and the link to append to it."""
    answer = http.post("/conversations", json=HELLO | {"status": "completed", "llmModel": "gpt-4o"})
    body = answer.json()
    conversation_id = body["id"]
    assert answer.status_code == 200
    assert body == {
        "id": conversation_id,
        "promptId": "prompt_123",
        "status": "completed",
        "createdAt": "2025-01-20T12:00:00.000Z",
        "_links": {
            "appendMessages": {
                "href": f"/api/v1/conversations/{conversation_id}/messages",
                "method": "POST",
                "hint": "Append turns to this conversation."
                " Send status: 'completed' on the final call to trigger analysis.",
            }
        },
    }


@pytest.mark.parametrize("status", ["completed", "abandoned", "in_progress", "active"])
def test_create_takes_every_documented_status(http: httpx.Client, status: str) -> None:
    """The three of the table, and `active`, which the section on appending asks for."""
    conversation_id = created(http, status=status)
    assert http.get(f"/conversations/{conversation_id}").json()["status"] == status


def test_a_conversation_without_a_status_is_in_progress(http: httpx.Client) -> None:
    """Completing is always said, so a create that does not say it leaves the conversation open."""
    assert http.get(f"/conversations/{created(http)}").json()["status"] == "in_progress"


def test_append_answers_with_the_whole_conversation(http: httpx.Client, clock: Clock) -> None:
    """All messages, the recomputed transcript and the merged metadata come back."""
    structured = {"messages": [{"role": "user", "content": "Hello"}], "metadata": {"channel": "web", "language": "en"}}
    conversation_id = created(http, content=json.dumps(structured), status="active", companyName="Acme")
    clock.now += 72.5
    call = {"id": "call_1", "name": "look_up", "arguments": {"order": 7}}
    answer = http.post(
        f"/conversations/{conversation_id}/messages",
        json={
            "messages": [
                {"role": "tool", "content": "", "toolCalls": [call], "model": "gpt-4o", "latencyMs": 12.5},
                {"role": "tool", "content": "found", "toolCalls": [{"id": "call_1", "name": "look_up"}]},
                {"role": "assistant", "content": "Here.", "usage": {"promptTokens": 3, "completionTokens": 1}},
            ],
            "metadata": {"channel": "mobile", "sessionId": "sess_abc"},
        },
    )
    body = answer.json()
    assert answer.status_code == 200
    user_id = body.pop("userId")
    assert user_id.startswith("user_")
    assert body == {
        "id": conversation_id,
        "promptId": "prompt_123",
        "title": "Hello",
        "content": "User: Hello\nTool: \nTool: found\nAssistant: Here.",
        "messages": [
            {"role": "user", "content": "Hello"},
            {"role": "tool", "content": "", "toolCalls": [call], "model": "gpt-4o", "latencyMs": 12.5},
            {"role": "tool", "content": "found", "toolCalls": [{"id": "call_1", "name": "look_up"}]},
            {"role": "assistant", "content": "Here.", "usage": {"promptTokens": 3, "completionTokens": 1}},
        ],
        "status": "active",
        "companyName": "Acme",
        "createdAt": "2025-01-20T12:00:00.000Z",
        "updatedAt": "2025-01-20T12:01:12.500Z",
        "metadata": {"channel": "mobile", "language": "en", "sessionId": "sess_abc"},
    }


def test_the_title_is_what_the_user_said_first(http: httpx.Client) -> None:
    """Also where the conversation was opened with a system prompt alone; later words change nothing."""
    content = json.dumps({"messages": [{"role": "system", "content": "You sell tents."}]})
    path = f"/conversations/{http.post('/conversations', json=HELLO | {'content': content}).json()['id']}"
    said = [http.get(path).json()["title"]]
    for words in ("Where  is it?", "Hello?"):
        http.post(f"{path}/messages", json={"messages": [{"role": "user", "content": words}]})
        said.append(http.get(path).json()["title"])
    assert said == ["You sell tents.", "Where is it?", "Where is it?"]


def test_content_stays_as_it_was_sent_until_an_append(http: httpx.Client) -> None:
    """A create is kept to the letter; the transcript takes its place with the first append."""
    content = '{"messages": [{"role": "user", "content": "Hello"}]}'
    conversation_id = created(http, content=content)
    before = http.get(f"/conversations/{conversation_id}").json()
    append(http, conversation_id, "again")
    after = http.get(f"/conversations/{conversation_id}").json()
    assert (before["content"], after["content"]) == (content, "User: Hello\nUser: again")


def test_unknown_fields_of_messages_are_kept(http: httpx.Client) -> None:
    """What a newer client sends with a message is not lost."""
    message = {"role": "user", "content": "Hello", "timestamp": "2025-01-20T12:00:00Z", "colour": {"name": "red"}}
    conversation_id = created(http)
    append_answer = http.post(f"/conversations/{conversation_id}/messages", json={"messages": [message]})
    assert append_answer.json()["messages"][-1] == message


def test_the_details_of_a_create_are_shown_as_they_were_sent(http: httpx.Client) -> None:
    """Metadata may have any key; what the messages of a create have beside their five fields stays there."""
    messages = [{"role": "user", "content": "Look"}, {"role": "assistant", "content": "I see.", "model": "m"}]
    metadata = {"messageDetails": {"1": {"usage": {"promptTokens": 3, "completionTokens": 2}}}, "channel": "web"}
    conversation_id = created(http, content=json.dumps({"messages": messages, "metadata": metadata}))
    shown = http.get(f"/conversations/{conversation_id}").json()
    assert (shown["messages"], shown["metadata"]) == (messages, metadata)
    answer = http.post(f"/conversations/{conversation_id}/messages", json={"messages": messages}).json()
    assert (answer["messages"], answer["metadata"]) == (messages * 2, metadata)


def test_completed_is_said_exactly_once(http: httpx.Client) -> None:
    """After the final call no turn can be appended, with or without a status, but a note can: feedback comes late."""
    conversation_id = created(http, status="active")
    assert append(http, conversation_id, "bye", status="completed").json()["status"] == "completed"
    refused = [
        append(http, conversation_id, "once more", status="completed"),
        append(http, conversation_id, "and"),
    ]
    expected = snapshot(
        {
            "error": {
                "code": "VALIDATION_ERROR",
                "message": "Conversation is already completed",
                "details": {
                    "status": '"completed" is sent exactly once, on the final call; only system messages may follow it'
                },
            }
        }
    )
    assert [(answer.status_code, answer.json()) for answer in refused] == [(400, expected)] * 2
    assert len(http.get(f"/conversations/{conversation_id}").json()["messages"]) == 3
    note = {"messages": [{"role": "system", "content": "Feedback"}], "metadata": {"feedback": 1}}
    noted = http.post(f"/conversations/{conversation_id}/messages", json=note).json()
    assert (noted["status"], noted["metadata"]["feedback"], len(noted["messages"])) == ("completed", 1, 4)
    assert http.post(f"/conversations/{conversation_id}/messages", json=note | {"status": "completed"}).is_error


@pytest.mark.parametrize("status", ["in_progress", "active", "abandoned"])
def test_active_on_an_append_changes_nothing(http: httpx.Client, status: str) -> None:
    """`active` is the default of an append and means no change."""
    conversation_id = created(http, status=status)
    assert append(http, conversation_id, "and", status="active").json()["status"] == status


def test_get_shows_insights_unless_told_not_to(http: httpx.Client) -> None:
    """A completed conversation carries simulated insights, labelled so."""
    conversation_id = created(http, status="completed", llmModel="gpt-4o")
    with_insights = http.get(f"/conversations/{conversation_id}").json()
    without = http.get(f"/conversations/{conversation_id}?includeInsights=false").json()
    assert with_insights["insights"] == snapshot(
        {
            "sentiment": "neutral",
            "taskCompleted": True,
            "topics": ["help", "hello", "today"],
            "summary": 'The user opened with "Hello, I need help". 1 user and 1 assistant messages. (Simulated.)',
            "simulated": True,
        }
    )
    assert without == {name: value for name, value in with_insights.items() if name != "insights"}
    assert (without["llmModel"], without["content"]) == ("gpt-4o", HELLO["content"])


def test_insights_come_with_completion(http: httpx.Client, clock: Clock) -> None:
    """They are not found before, and have the document's shape after."""
    conversation_id = created(http, status="active")
    before = http.get(f"/conversations/{conversation_id}/insights")
    clock.now += 300
    append(http, conversation_id, "This is terrible, nothing works", status="completed")
    after = http.get(f"/conversations/{conversation_id}/insights")
    assert (before.status_code, before.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert after.json() == {
        "conversationId": conversation_id,
        "sentiment": "negative",
        "sentimentScore": -1.0,
        "taskCompleted": False,
        "topics": ["help", "hello", "today"],
        "summary": 'The user opened with "Hello, I need help". 2 user and 1 assistant messages. (Simulated.)',
        "issues": ["The last message of the user has no answer."],
        "simulated": True,
        "createdAt": "2025-01-20T12:05:00.000Z",
    }


def test_list_is_newest_first_and_filtered(http: httpx.Client) -> None:
    """Filters by prompt, status and insights; a page says how many there are in all."""
    first = created(http, status="completed")
    second = created(http, promptId="other")
    third = created(http, status="abandoned")

    def ids(query: str) -> list[str]:
        return [each["id"] for each in http.get(f"/conversations{query}").json()["data"]]

    assert ids("") == [third, second, first]
    assert ids("?promptId=other") == [second]
    assert ids("?status=abandoned") == [third]
    assert ids("?hasInsights=true") == [first]
    assert ids("?hasInsights=false&promptId=prompt_123") == [third]
    assert http.get("/conversations?limit=1&offset=2").json() == {
        "data": [
            {
                "id": first,
                "promptId": "prompt_123",
                "status": "completed",
                "hasInsights": True,
                "createdAt": "2025-01-20T12:00:00.000Z",
            }
        ],
        "pagination": {"total": 3, "limit": 1, "offset": 2},
    }


def test_a_page_holds_twenty_by_default(http: httpx.Client) -> None:
    """The default limit is the document's."""
    for _ in range(21):
        created(http)
    page = http.get("/conversations").json()
    assert (len(page["data"]), page["pagination"]) == (20, {"total": 21, "limit": 20, "offset": 0})


def test_an_idempotency_key_stands_for_one_conversation_for_a_day(http: httpx.Client, clock: Clock) -> None:
    """The same key gives the existing conversation, whatever else is sent; after 24 hours it is new again."""
    first = created(http, idempotencyKey="key")
    append(http, first, "done", status="completed")
    clock.now += 24 * 3600 - 1
    again = http.post("/conversations", json=HELLO | {"idempotencyKey": "key", "promptId": "another"}).json()
    clock.now += 2
    later = created(http, idempotencyKey="key")
    assert (again["id"], again["promptId"], again["status"]) == (first, "prompt_123", "completed")
    assert later != first
    assert http.get("/conversations").json()["pagination"]["total"] == 2


def test_accounts_do_not_see_each_other(server: LocalServer, http: httpx.Client) -> None:
    """Another key is another account: its conversations are not found, its idempotency keys are its own."""
    mine = created(http, idempotencyKey="key")
    with client(server, "another key") as other:
        answers = [
            other.get(f"/conversations/{mine}"),
            other.get(f"/conversations/{mine}/insights"),
            append(other, mine, "hi"),
        ]
        assert created(other, idempotencyKey="key") != mine
        assert other.get("/conversations").json()["pagination"]["total"] == 1
    not_found = {"error": {"code": "NOT_FOUND", "message": "Conversation not found"}}
    assert [(answer.status_code, answer.json()) for answer in answers] == [(404, not_found)] * 3


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic a2V5"])
def test_without_a_key_nothing_is_answered(http: httpx.Client, authorization: str | None) -> None:
    """A missing key is 401 in the document's error shape."""
    headers = {"Authorization": authorization or ""}
    answers = [
        http.get("/conversations", headers=headers),
        http.post("/conversations", headers=headers, json=HELLO),
        http.post("/conversations/x/messages", headers=headers, json={}),
        http.get("/conversations/x", headers=headers),
        http.get("/conversations/x/insights", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [401] * 5
    assert answers[0].json() == {
        "error": {"code": "UNAUTHORIZED", "message": "Missing API key: send the header Authorization: Bearer <key>"}
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("DELETE", "/conversations", 405, {"code": "METHOD_NOT_ALLOWED", "message": "Method Not Allowed: "}),
        ("POST", "/conversations/conv_1", 405, {"code": "METHOD_NOT_ALLOWED", "message": "Method Not Allowed: "}),
        ("GET", "/nothing", 404, {"code": "NOT_FOUND", "message": "Not Found: "}),
        ("GET", "/conversations/", 404, {"code": "NOT_FOUND", "message": "Not Found: "}),
    ],
)
def test_what_is_not_there_is_an_error_in_json(
    http: httpx.Client, method: str, path: str, status: int, body: dict[str, str]
) -> None:
    """Unknown paths and methods are answered in the error shape too, naming what was asked."""
    answer = http.request(method, path)
    asked = {"code": body["code"], "message": f"{body['message']}{method} /api/v1{path}"}
    assert (answer.status_code, answer.json()) == (status, {"error": asked})


def test_a_wrong_method_names_the_right_ones(http: httpx.Client) -> None:
    """The Allow header lists every method of the path."""
    allowed = [http.put(path).headers["allow"] for path in ("/conversations", "/conversations/x/messages")]
    assert allowed == ["GET, POST", "POST"]


def test_a_failure_of_the_server_is_json_too(server: LocalServer, http: httpx.Client) -> None:
    """Even a broken database gives an answer that a client can read."""
    server.store.pruning.stop()  # it may be amid a transaction, which would bring the table back
    server.store._db.execute("DROP TABLE idempotency_keys")
    answer = http.post("/conversations", json=HELLO | {"idempotencyKey": "key"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INTERNAL_ERROR")
