"""What is captured of each way to call the openai client: whole turns, as the recorder gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.integrations import scripted
from tests.integrations.openai_shapes import SCRIPTS, SHAPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integrations.recording import RecordingCapture
    from tests.integrations.scripted import ScriptedModel

BROKEN = "a broken connection"
BROKEN_ERRORS = ("APIConnectionError", "RemoteProtocolError")
"""What a connection that breaks raises, before and after openai has translated it, which old versions do not."""

ANSWERS: dict[str, Any] = {
    "chat-create": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-tools": {
        "answer": {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [
                        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                        {"id": "call_2", "name": "get_time", "arguments": '{"zone": "CET"}'},
                    ],
                }
            ],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "tool_calls",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-two": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Heads."}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "alternatives": [{"index": 1, "content": "Tails.", "finishReason": "stop"}],
            "response_id": "chatcmpl-1",
        }
    },
    "chat-refusal": {
        "answer": {
            "messages": [{"role": "assistant", "text": "I can't help with that.", "metadata": {"refusal": True}}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-extra-body": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-tuple": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-parse": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-parse-tools": {
        "answer": {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [
                        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                        {"id": "call_2", "name": "get_time", "arguments": '{"zone": "CET"}'},
                    ],
                }
            ],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "tool_calls",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-parse-length": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "A'}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "length",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-parse-refused": {
        "error": "ValidationError",
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": "old"}'}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        },
    },
    "chat-beta-parse": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-beta-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "client-raw": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "client-raw-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "client-streaming": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "beta-create": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-omitted": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-stream-usage": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-stream-tools": {
        "answer": {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [
                        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                        {"id": "call_2", "name": "get_time", "arguments": '{"zone": "CET"}'},
                    ],
                }
            ],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "tool_calls",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-stream-left": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hel"}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        }
    },
    "chat-stream-closed": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hel"}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        }
    },
    "chat-stream-dropped": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hel"}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        }
    },
    "chat-stream-never": {"answer": {"messages": [{"role": "assistant"}], "partial": True}},
    "chat-stream-thread": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-stream-twice": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-stream-cut": {
        "error": BROKEN,
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello"}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        },
    },
    "chat-stream-error": {
        "error": "APIError",
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello"}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        },
    },
    "chat-helper": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-helper-left": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", '}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        }
    },
    "chat-helper-final": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-raw": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-raw-unparsed": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-raw-parse": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-raw-parse-length": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "A'}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "length",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-raw-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-raw-stream-cut": {
        "error": BROKEN,
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello"}],
            "model": "gpt-4o-2024-08-06",
            "response_id": "chatcmpl-1",
            "partial": True,
        },
    },
    "chat-raw-stream-lines": {
        "answer": {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [
                        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                        {"id": "call_2", "name": "get_time", "arguments": '{"zone": "CET"}'},
                    ],
                }
            ],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "tool_calls",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-streaming-parse": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-streaming-json": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-streaming-text": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-streaming-lines": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-streaming-bytes": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-streaming-unread": {"answer": {"messages": [{"role": "assistant"}], "partial": True}},
    "chat-streaming-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-streaming-stream-lines": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-bad-request": {"error": "BadRequestError"},
    "chat-bad-request-stream": {"error": "BadRequestError"},
    "chat-bad-request-raw": {"error": "BadRequestError"},
    "chat-error-in-200": {"answer": {"metadata": {"error": {"type": "invalid_request_error"}}}},
    "chat-plain-text": {"answer": {"metadata": {"error": {"type": "NoAnswer"}}}},
    "chat-post": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "chat-post-object": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-4o-2024-08-06",
            "usage": {"prompt_tokens": 21, "completion_tokens": 9},
            "usage_details": {"cachedTokens": 16, "reasoningTokens": 4},
            "finish_reason": "stop",
            "response_id": "chatcmpl-1",
        }
    },
    "completions": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello."}],
            "model": "davinci-002",
            "finish_reason": "stop",
            "response_id": "cmpl-1",
        }
    },
    "completions-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello.Hello."}],
            "model": "davinci-002",
            "finish_reason": "stop",
            "response_id": "cmpl-1",
        }
    },
    "responses-create": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!", "metadata": {"reasoning": "They greet me."}}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-items": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!", "metadata": {"reasoning": "They greet me."}}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-tools": {
        "answer": {
            "messages": [
                {
                    "role": "assistant",
                    "text": "Let me look.",
                    "calls": [
                        {"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'},
                        {"id": "call_2", "name": "get_time", "arguments": '{"zone": "CET"}'},
                    ],
                }
            ],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-search": {
        "answer": {
            "messages": [
                {
                    "role": "tool",
                    "calls": [
                        {
                            "id": "ws_1",
                            "name": "web_search",
                            "arguments": {"action": {"type": "search", "query": "weather in Paris"}},
                        }
                    ],
                    "call_id": "ws_1",
                    "name": "web_search",
                    "metadata": {
                        "item": {
                            "id": "ws_1",
                            "action": {"type": "search", "query": "weather in Paris"},
                            "status": "completed",
                            "type": "web_search_call",
                        }
                    },
                },
                {"role": "assistant", "text": "Sunny."},
            ],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-refusal": {
        "answer": {
            "messages": [{"role": "assistant", "text": "I can't help with that.", "metadata": {"refusal": True}}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-incomplete": {
        "answer": {
            "messages": [{"role": "assistant"}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "max_output_tokens",
            "response_id": "resp_1",
            "metadata": {"reasoning": "They greet me."},
        }
    },
    "responses-failed": {
        "answer": {
            "messages": [{"role": "assistant"}],
            "model": "gpt-5-mini-2025-08-07",
            "finish_reason": "failed",
            "response_id": "resp_1",
            "metadata": {"error": {"type": "server_error"}},
        }
    },
    "responses-parse": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-stream-tools": {
        "answer": {
            "messages": [
                {
                    "role": "assistant",
                    "calls": [{"id": "call_1", "name": "get_weather", "arguments": '{"city": "Paris"}'}],
                }
            ],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-stream-left": {
        "answer": {
            "messages": [{"role": "assistant"}],
            "model": "gpt-5-mini-2025-08-07",
            "response_id": "resp_1",
            "partial": True,
            "metadata": {"responseId": "resp_1"},
        }
    },
    "responses-stream-cut": {
        "error": BROKEN,
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello"}],
            "model": "gpt-5-mini-2025-08-07",
            "response_id": "resp_1",
            "partial": True,
            "metadata": {"responseId": "resp_1"},
        },
    },
    "responses-helper": {
        "answer": {
            "messages": [{"role": "assistant", "text": '{"name": "Ada", "age": 36}'}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-helper-left": {
        "answer": {
            "messages": [{"role": "assistant"}],
            "model": "gpt-5-mini-2025-08-07",
            "response_id": "resp_1",
            "partial": True,
            "metadata": {"responseId": "resp_1"},
        }
    },
    "responses-helper-final": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-raw": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!", "metadata": {"reasoning": "They greet me."}}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-raw-stream": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!"}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-streaming-json": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!", "metadata": {"reasoning": "They greet me."}}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
    "responses-bad-request": {"error": "BadRequestError"},
    "beta-responses": {
        "answer": {
            "messages": [{"role": "assistant", "text": "Hello there!", "metadata": {"reasoning": "They greet me."}}],
            "model": "gpt-5-mini-2025-08-07",
            "usage": {"prompt_tokens": 30, "completion_tokens": 12},
            "usage_details": {"cachedTokens": 8, "reasoningTokens": 5},
            "finish_reason": "completed",
            "response_id": "resp_1",
        }
    },
}


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    with scripted.serve(SCRIPTS) as served:
        yield served


def captured(name: str, model: ScriptedModel, capture: RecordingCapture) -> dict[str, Any]:
    """The facts of a shape's turn, without the question, which is the same in all."""
    capture.calls.clear()
    next(shape for shape in SHAPES if shape.name == name).run(model)
    capture.settle()
    facts = {key: value for key, value in capture.only().facts().items() if key in ("error", "answer")}
    return facts | {"error": BROKEN} if facts.get("error") in BROKEN_ERRORS else facts


@pytest.mark.parametrize("name", [shape.name for shape in SHAPES if shape.turns and shape.twin is None])
def test_the_answer(name: str, model: ScriptedModel, capture: RecordingCapture) -> None:
    """Text, calls, model, usage, finish reason: each shape of answer is read whole."""
    assert captured(name, model, capture) == ANSWERS[name]
