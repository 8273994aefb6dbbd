"""The OpenAPI 3.1 document of the local API: the schemas that requests are checked with, and what the answers hold."""

from __future__ import annotations

from functools import cache
from typing import Any

from converra._version import __version__
from converra.server.api.schemas import COMPONENTS, GET_QUERY, LIMITS_IN_WORDS, LIST_QUERY, Schema

_DATE_TIME: Schema = {"type": "string", "format": "date-time"}
_STRING: Schema = {"type": "string"}
_STRINGS: Schema = {"type": "array", "items": _STRING}
_INTEGER: Schema = {"type": "integer"}
_OBJECT: Schema = {"type": "object"}
_STATUS: Schema = {"enum": ["active", "in_progress", "completed", "abandoned"]}
_SENTIMENT: Schema = {"enum": ["positive", "neutral", "negative"]}
_BOOLEAN: Schema = {"type": "boolean"}

_ERRORS = {
    "400": "The request breaks a rule of the document; `details` names the fields",
    "401": "No API key",
    "404": "No such conversation in this account, or no insights yet",
    "413": f"Over a limit: {LIMITS_IN_WORDS}",
    "415": "The body is not application/json",
}


def _exactly(**properties: Schema) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "required": list(properties), "properties": properties}


_INSIGHTS: dict[str, Schema] = {
    "sentiment": _SENTIMENT,
    "taskCompleted": _BOOLEAN,
    "topics": _STRINGS,
    "summary": _STRING,
    "simulated": {"const": True, "description": "These insights are made up from the words; the API's are not"},
}

_ANSWERS: dict[str, Schema] = {
    "CreatedConversation": _exactly(
        id=_STRING,
        promptId=_STRING,
        status=_STATUS,
        createdAt=_DATE_TIME,
        _links=_exactly(appendMessages=_exactly(href=_STRING, method={"const": "POST"}, hint=_STRING)),
    ),
    "Conversation": {
        "type": "object",
        "required": ["id", "userId", "promptId", "title", "content", "status", "createdAt", "updatedAt", "metadata"],
        "properties": {
            "id": _STRING,
            "userId": _STRING,
            "promptId": _STRING,
            "title": _STRING,
            "content": _STRING,
            "messages": {"type": "array", "items": {"type": "object", "required": ["role", "content"]}},
            "status": _STATUS,
            "llmModel": _STRING,
            "companyName": _STRING,
            "createdAt": _DATE_TIME,
            "updatedAt": _DATE_TIME,
            "metadata": _OBJECT,
            "insights": _exactly(**_INSIGHTS),
        },
    },
    "ConversationPage": _exactly(
        data={
            "type": "array",
            "items": _exactly(id=_STRING, promptId=_STRING, status=_STATUS, hasInsights=_BOOLEAN, createdAt=_DATE_TIME),
        },
        pagination=_exactly(total=_INTEGER, limit=_INTEGER, offset=_INTEGER),
    ),
    "Insights": _exactly(
        conversationId=_STRING,
        sentimentScore={"type": "number", "minimum": -1, "maximum": 1},
        issues=_STRINGS,
        createdAt=_DATE_TIME,
        **_INSIGHTS,
    ),
    "Error": _exactly(
        error={
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": _STRING, "message": _STRING, "details": _OBJECT},
        }
    ),
}


@cache
def document() -> dict[str, Any]:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Conversations API, local copy",
            "version": __version__,
            "description": "Strict: what the API document forbids is refused. Any non-empty key is an account.",
        },
        "servers": [{"url": "/api/v1"}],
        "security": [{"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**COMPONENTS, **_ANSWERS},
        },
    }


def _paths() -> dict[str, Any]:
    by_id = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}]
    return {
        "/conversations": {
            "post": _operation("createConversation", "CreatedConversation", body="CreateConversation", links=True),
            "get": _operation("listConversations", "ConversationPage", parameters=_query(LIST_QUERY)),
        },
        "/conversations/{id}": {
            "parameters": by_id,
            "get": _operation("getConversation", "Conversation", parameters=_query(GET_QUERY)),
        },
        "/conversations/{id}/messages": {
            "parameters": by_id,
            "post": _operation("appendMessages", "Conversation", body="AppendMessages"),
        },
        "/conversations/{id}/insights": {
            "parameters": by_id,
            "get": _operation("getInsights", "Insights"),
        },
    }


def _operation(
    name: str, answer: str, *, body: str | None = None, parameters: list[Schema] | None = None, links: bool = False
) -> dict[str, Any]:
    answered: dict[str, Any] = {"description": "OK", "content": _json(answer)}
    if links:
        targets = ("appendMessages", "getConversation")
        answered["links"] = {to: {"operationId": to, "parameters": {"id": "$response.body#/id"}} for to in targets}
    errors = {status: {"description": words, "content": _json("Error")} for status, words in _ERRORS.items()}
    operation: dict[str, Any] = {"operationId": name, "responses": {"200": answered, **errors}}
    if parameters:
        operation["parameters"] = parameters
    if body:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _query(rules: dict[str, Schema]) -> list[Schema]:
    return [{"name": name, "in": "query", "schema": rule} for name, rule in rules.items()]


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
