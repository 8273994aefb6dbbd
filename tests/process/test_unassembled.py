"""What was recorded but not assembled yet when a process ends or forks: it is nobody's to lose."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from converra.server.run import LocalServer

TALK = """
import converra
converra.instrument(handle_sigterm={sigterm})
chats = [converra.conversation("prompt", metadata={{"chat": n}}) for n in range(5)]
said = 0
def speak():
    global said
    for chat in chats: chat.add_message("assistant", f"{{said}}", latency_ms=1.0)
    said += 1
"""

ENDS = {
    "falls off the end": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise KeyError", 1),
    "flush and os._exit": ("assert converra.flush(LONG); os._exit(0)", 0),
    "shutdown and os._exit": ("assert converra.shutdown(LONG); os._exit(0)", 0),
    "SIGTERM with handle_sigterm": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(LONG)", -signal.SIGTERM),
}


def heard(server: LocalServer) -> list[list[str]]:
    """What was said in each chat, in order, also where it was too long for one conversation."""
    found, _ = server.store.conversations(limit=1000)
    chats: dict[Any, list[list[str]]] = {}
    for one in found:
        words = [message["content"] for message in server.store.messages(one)]
        chats.setdefault(one.metadata["chat"], []).append([word for word in words if word.isdigit()])
    return [[word for words in sorted(parts, key=_beginning) for word in words] for parts in chats.values()]


def _beginning(words: list[str]) -> int:
    return int(words[0]) if words else 0


@pytest.mark.parametrize("end", ENDS)
def test_a_burst_just_before_the_end(end: str, server: LocalServer, start: Callable[..., Any]) -> None:
    """Faster than any worker: all of it arrives, once and in order."""
    code, status = ENDS[end]
    ended = start(TALK.format(sigterm=True) + f"for _ in range(100): speak()\n{code}").ended()
    assert ended.status == status
    assert heard(server) == [[str(number) for number in range(100)]] * 5


@pytest.mark.parametrize("late", [0.0, 0.05, 0.2])
def test_a_signal_amid_a_burst(late: float, server: LocalServer, start: Callable[..., Any]) -> None:
    """A SIGTERM that interrupts recording anywhere, also while something is assembled: what was said before arrives."""
    code = """
for _ in range(20): speak()
print("ready", flush=True)
while True:
    speak()
    if said % 7 == 0: converra.stats()  # assembles here what waits
"""
    child = start(TALK.format(sigterm=True) + code, measured=False).ready()
    time.sleep(late)
    child.signal(signal.SIGTERM)
    assert child.ended().status == -signal.SIGTERM
    chats = heard(server)
    assert len(chats) == 5
    fewest = min(map(len, chats))
    assert fewest >= 20
    for words in chats:
        assert words == [str(number) for number in range(len(words))]
        assert len(words) <= fewest + 1


def test_a_child_leaves_it_to_its_parent(server: LocalServer, start: Callable[..., Any]) -> None:
    """Neither sends what the other one has said."""
    code = """
for _ in range(50): speak()
child = os.fork()
if child == 0:
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
"""
    assert start(TALK.format(sigterm=False) + code).ended().status == 0
    assert heard(server) == [[str(number) for number in range(50)]] * 5
