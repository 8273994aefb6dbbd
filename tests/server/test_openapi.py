"""The OpenAPI document, and the server held to it by schemathesis."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converra.server.run import serve
from tests.effort import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.server.run import LocalServer

WORDS = st.text(st.characters(codec="utf-8", exclude_characters=":\r"), min_size=1).filter(str.strip)
TEXT = st.lists(WORDS, min_size=1, max_size=3).map(lambda said: "\n".join(f"User: x{words}" for words in said))
STRUCTURED = st.lists(WORDS, min_size=1, max_size=3).map(
    lambda said: json.dumps({"messages": [{"role": "user", "content": words} for words in said]})
)
ANYTHING = st.recursive(
    st.none() | st.integers(-9, 9) | st.text("ab01"), lambda each: st.dictionaries(st.text("01"), each)
)
DETAILED = ANYTHING.map(
    lambda details: json.dumps(
        {"messages": [{"role": "user", "content": "x"}], "metadata": {"messageDetails": details, "0": details}}
    )
)
schemathesis.openapi.format("conversation-content", TEXT | STRUCTURED | DETAILED)

EXCLUDED = [schemathesis.checks.ignored_auth]  # any key is an account here
HEADERS = {"Authorization": "Bearer schemathesis"}


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


def test_the_document_is_served_without_a_key(server: LocalServer) -> None:
    """Whoever writes a client may read it, and it names every operation."""
    document = httpx.get(f"{server.base_url}/openapi.json").json()
    operations = {f"{method} {path}" for path, methods in document["paths"].items() for method in methods}
    assert document["openapi"] == "3.1.0"
    assert operations - {f"parameters {path}" for path in document["paths"]} == {
        "post /conversations",
        "get /conversations",
        "get /conversations/{id}",
        "post /conversations/{id}/messages",
        "get /conversations/{id}/insights",
    }


@pytest.fixture(scope="module")
def document(shared: LocalServer) -> Any:
    return schemathesis.openapi.from_url(f"{shared.base_url}/openapi.json")


OPERATIONS = ("createConversation", "listConversations", "getConversation", "appendMessages", "getInsights")


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_keeps_to_the_document(
    shared: LocalServer, document: Any, name: str, mode: schemathesis.GenerationMode
) -> None:
    """Whatever is sent, right or wrong: a documented status, a documented body, never a 5xx."""
    operation = document.find_operation_by_id(name)
    identified = {"path_parameters": {"id": opened(shared)}} if "{id}" in operation.path else {}

    @settings(
        max_examples=examples(25),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, **identified))
    def check(case: Any) -> None:
        if name == "appendMessages":  # the last one may have completed it
            case.path_parameters["id"] = opened(shared)
        case.call_and_validate(headers=HEADERS, excluded_checks=EXCLUDED)

    check()


@pytest.mark.parametrize("added", [False, True], ids=["documented", "one more"])
def test_a_message_of_a_create_has_the_documented_fields_only(document: Any, added: bool) -> None:
    """The content is JSON within a string, which no schema of the operation reaches into: its own schema is tried."""
    operation = document.find_operation_by_id("createConversation")
    contents = bodies_of(document.raw_schema["components"]["schemas"]["StructuredContent"])
    others = st.sampled_from(["metadata", "usage", "latencyMs", "toolCalls"]) | st.text("abM.", min_size=1)

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(content=contents, name=others, value=ANYTHING)
    def check(content: dict[str, Any], name: str, value: Any) -> None:
        messages = content["messages"]
        if added:
            messages[-1] = {**messages[-1], name: value}
        body = {"promptId": "p", "content": json.dumps(content)}
        case = operation.Case(body=body, media_type="application/json")
        response = case.call_and_validate(headers=HEADERS, excluded_checks=EXCLUDED)
        assert response.status_code == (400 if added else 200)
        if added:
            assert list(response.json()["error"]["details"]) == [f"content.messages[{len(messages) - 1}].{name}"]

    check()


def bodies_of(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """What schemathesis makes of a schema alone: the body of an operation that has nothing else."""
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    answers = {"200": {"description": "any"}}
    paths = {"/": {"post": {"requestBody": body, "responses": answers}}}
    alone = schemathesis.openapi.from_dict({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths})
    made = alone["/"]["POST"].as_strategy(generation_mode=schemathesis.GenerationMode.POSITIVE)
    return made.map(lambda case: case.body)


def opened(server: LocalServer) -> str:
    """A conversation that can be appended to."""
    body = {"promptId": "p", "content": "User: Hello"}
    answer = httpx.post(f"{server.base_url}/conversations", json=body, headers=HEADERS)
    return str(answer.json()["id"])


def test_a_conversation_lives_as_the_links_say(document: Any) -> None:
    """Created, then appended to, read and analysed in any order: every answer fits the document."""
    machine = document.as_state_machine()

    class Machine(machine):  # type: ignore[misc, valid-type] # made at run time
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": HEADERS}

        def validate_response(self, response: Any, case: Any, **kwargs: Any) -> None:
            excluded = [*EXCLUDED, schemathesis.checks.positive_data_acceptance]  # an append may come too late
            case.validate_response(response, excluded_checks=excluded)

    Machine.run(
        settings=settings(
            max_examples=examples(8),
            stateful_step_count=6,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
    )
