"""JSON Schemas of the requests that the API accepts. `validation` applies the rules that OpenAPI shows.

Where the API document is silent, the choice and its reason stand beside the rule.
"""

from __future__ import annotations

from typing import Any, Final

from converra.wire.limits import MAX_MESSAGES
from converra.wire.models import ROLES

Schema = dict[str, Any]

MAX_PAGE = 100
"""Most conversations of one page; the API document names only the default of 20."""

_NAME: Final[Schema] = {"type": "string", "minLength": 1}
_COUNT: Final[Schema] = {"type": "number", "minimum": 0}
_OBJECT: Final[Schema] = {"type": "object"}

USAGE: Final[Schema] = {
    "type": "object",
    "required": ["promptTokens", "completionTokens"],
    "properties": {"promptTokens": _COUNT, "completionTokens": _COUNT},
}

TOOL_CALL: Final[Schema] = {
    "description": "The API document names no fields. Any object is kept as it is; these have a type when present.",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "arguments": {"type": ["object", "array", "string", "number", "boolean"]},
    },
}

_ANSWER_FIELDS: Final[Schema] = {
    "timestamp": {"type": "string", "format": "date-time"},
    "model": {"type": "string"},
    "tokens": _COUNT,
}

MESSAGE: Final[Schema] = {
    "description": "One turn. Only a `tool` message may have empty content. Fields not named here are kept.",
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"type": "string", "enum": list(ROLES)},
        "content": {"type": "string"},
        **_ANSWER_FIELDS,
        "toolCalls": {"type": "array", "items": {"$ref": "#/components/schemas/ToolCall"}},
        "usage": {"$ref": "#/components/schemas/Usage"},
        "latencyMs": _COUNT,
        "metadata": _OBJECT,
    },
    "if": {"properties": {"role": {"type": "string", "enum": [role for role in ROLES if role != "tool"]}}},
    "then": {"properties": {"content": {"type": "string", "minLength": 1}}},
}

STRUCTURED_CONTENT: Final[Schema] = {
    "description": "What a `content` in JSON holds. A message has these fields only; metadata may have any.",
    "type": "object",
    "required": ["messages"],
    "properties": {
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "additionalProperties": False,
                "properties": {
                    "role": {"type": "string", "enum": ["user", "assistant", "system"]},
                    "content": _NAME,
                    **_ANSWER_FIELDS,
                },
            },
        },
        "metadata": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("userId", "sessionId", "channel", "language")},
        },
    },
}

CREATE: Final[Schema] = {
    "type": "object",
    "required": ["promptId", "content"],
    "additionalProperties": False,
    "properties": {
        "promptId": _NAME,
        "content": {**_NAME, "format": "conversation-content"},
        "status": {"type": "string", "enum": ["completed", "abandoned", "in_progress", "active"]},
        "llmModel": {"type": "string"},
        "companyName": {"type": "string"},
        "idempotencyKey": _NAME,
    },
}

APPEND: Final[Schema] = {
    "type": "object",
    "required": ["messages"],
    "additionalProperties": False,
    "properties": {
        "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}},
        "status": {"type": "string", "enum": ["active", "completed"]},
        "metadata": _OBJECT,
    },
}

LIST_QUERY: Final[Schema] = {
    "promptId": {"type": "string"},
    "status": CREATE["properties"]["status"],
    "hasInsights": {"type": "boolean"},
    "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 20},
    "offset": {"type": "integer", "minimum": 0, "maximum": 2**53, "default": 0},
}

GET_QUERY: Final[Schema] = {"includeInsights": {"type": "boolean", "default": True}}

COMPONENTS: Final[dict[str, Schema]] = {
    "Usage": USAGE,
    "ToolCall": TOOL_CALL,
    "Message": MESSAGE,
    "StructuredContent": STRUCTURED_CONTENT,
    "CreateConversation": CREATE,
    "AppendMessages": APPEND,
}

LIMITS_IN_WORDS = f"content 512 KB, {MAX_MESSAGES} messages, 100 KB a message, in UTF-8 bytes; a KB is 1,024 bytes"
