"""Cost of the viewer with many conversations, and with a full one.

`python -m benchmarks.viewer [COUNT [MESSAGES [FILE]]]`: COUNT conversations of MESSAGES messages, by default 10,000 of
100, which are a million. A FILE is kept and used again.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from converra.server.run import serve
from converra.server.store.conversations import Store
from converra.server.store.records import NewConversation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

WORDS = (
    *("order", "parcel", "invoice", "refund", "address", "delivery", "late", "broken", "thanks", "please", "account"),
    *("password", "size", "colour", "voucher", "return", "courier", "customs", "warranty", "exchange", "receipt"),
)
PAGES: Mapping[str, str] = {
    "list": "/",
    "last page": "/?page=199",
    "status": "/?status=completed",
    "model": "/?model=gpt-4o",
    "errors": "/?errors=yes",
    "session": "/?session=session-7",
    "word that all have": "/?q=the",
    "word that some have": "/?q=warranty",
    "word that one has": "/?q=needle",
    "unfinished word": "/?q=de",
    "three words": "/?q=order+parcel+invoice",
    "word and filters": "/?q=refund&status=completed&model=gpt-4o",
    "sorted by tokens": "/?sort=tokens",
    "of one day": "/?since=2025-01-01&until=2025-01-01",
    "one letter more": "/?q=del",
    "a conversation": "/conversations/conv_00005000",
    "full conversation": "/conversations/conv_full",
    "news of it": "/conversations/conv_full?after=499",
    "it as one HTML page": "/conversations/conv_full/export/html",
}


_MADE = 10
"""Messages that are made one by one; more are copies of these."""


def fill(store: Store, count: int, messages: int = 8) -> None:
    """Store `count` conversations, the same each time, and a full one: 500 messages of 1 KB each."""
    made = min(messages, _MADE)
    random.seed(7)
    with store.transaction(), _indexed_at_the_end(store):
        for number in range(count):
            store.create(_conversation(number, made, needle=number == count // 2))
        for copy in range(1, messages // made):
            store.execute(
                "INSERT INTO messages SELECT number + ?, conversation, role, replace(content, 'needle', ''), calls,"
                " rest, received_at FROM messages WHERE number & 1048575 < ?",
                (copy * made, made),
            )
        store.execute("UPDATE conversations SET messages = messages * ?", (messages // made,))
        source = [_message(place, 0) | {"content": "long words " * 93} for place in range(500)]
        store.create(NewConversation("conv_full", "benchmark", "prompt-0", "active", "", source, title="Full"))


@contextmanager
def _indexed_at_the_end(store: Store) -> Iterator[None]:
    """Build the search index once, at the end: one by one, a million entries take many times as long."""
    ((trigger,),) = store.rows("SELECT sql FROM sqlite_master WHERE name = 'message_text_insert'")
    store.execute("DROP TRIGGER message_text_insert")
    yield
    store.execute(trigger)
    store.execute("INSERT INTO message_text (message_text) VALUES ('rebuild')")


def _conversation(number: int, messages: int, *, needle: bool) -> NewConversation:
    source = [_message(place, number) for place in range(messages)]
    if needle:
        source[0]["content"] += " needle"
    return NewConversation(
        id=f"conv_{number:08d}",
        account="benchmark",
        prompt_id=f"prompt-{number % 5}",
        status=("completed", "completed", "active", "abandoned")[number % 4],
        content="",
        messages=source,
        metadata={"sessionId": f"session-{number // 3}"},
        title=source[0]["content"][:60],
    )


def _message(place: int, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": ("user", "assistant")[place % 2],
        "content": f"the {' '.join(random.choices(WORDS, k=20))} {number}",  # noqa: S311 - words to look for
    }
    if place % 2:
        usage = {"promptTokens": 100 * place, "completionTokens": 20}
        message |= {"model": ("gpt-4o", "gpt-4o-mini")[number % 2], "usage": usage, "latencyMs": 900}
    if place == 1 and number % 50 == 0:
        message["metadata"] = {"error": {"type": "RateLimitError"}}
    return message


def measure(url: str, clock: Callable[[], float] = time.perf_counter, times: int = 9) -> dict[str, float]:
    """Return the milliseconds that a browser waits for each page, by some clock: the median of a few.

    By `time.process_time` it is the CPU time of server and client, which other programs on the machine do not stretch.
    """
    headers = {"HX-Request": "true"}
    with httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False, verify=False) as http:  # noqa: S501 - loopback

        def once(path: str) -> float:
            started = clock()
            http.get(path).raise_for_status()
            return (clock() - started) * 1000

        return {name: statistics.median(once(path) for _ in range(times)) for name, path in PAGES.items()}


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    messages = int(sys.argv[2]) if len(sys.argv) > 2 else 100  # noqa: PLR2004 - arguments
    store = Store(sys.argv[3] if len(sys.argv) > 3 else ":memory:")  # noqa: PLR2004 - arguments
    if not store.conversations(limit=1)[1]:
        fill(store, count, messages)
    with serve(store=store) as server:
        cpu = measure(server.url, time.process_time)
        print(f"{f'{count:,} conversations of {messages} messages':<40}{'ms':>8}{'of CPU':>8}")
        for name, ms in measure(server.url).items():
            print(f"{name:<40}{ms:>8.1f}{cpu[name]:>8.1f}")
    store.close()


if __name__ == "__main__":
    main()
