"""Producers and relays that are killed at random while Redis and the API fail: what must have arrived, and what not."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.patience import LONG

if TYPE_CHECKING:
    from converra.server.run import LocalServer
    from tests.fleet.redis_server import RedisServer

ROOT = Path(__file__).parents[2]


class Nursery:
    """The process that forks the others."""

    def __init__(self, **config: Any) -> None:
        self._config = config
        command = [sys.executable, "-m", "tests.fleet.nursery"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._children: set[int] = set()

    def start(self, role: str, **arguments: Any) -> int:
        """Start a process; return its id."""
        config = self._config | arguments.pop("config", {})
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"role": role, "config": config, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        self._children.add(child)
        return child

    def kill(self, child: int, number: int = signal.SIGKILL) -> bool:
        """Send a signal; return False if the process has ended before."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)
            return True
        return False

    def runs(self, child: int) -> bool:
        """Report whether a process runs."""
        return self.kill(child, 0)

    def close(self) -> None:
        """End everything."""
        for child in self._children:
            self.kill(child)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Torture:
    """One run. `seed` chooses who is killed when."""

    def __init__(self, api: LocalServer, redis: RedisServer, folder: Path, *, seed: int, relay: str = "none") -> None:
        self.api = api
        self.redis = redis
        self.random = random.Random(seed)
        self.relay = relay
        self.log = folder / "log"
        self.log.touch()
        self.nursery = Nursery(base_url=api.base_url, outbox=f"{redis.url}?lanes=8", relay=relay)
        self.producers: dict[int, str] = {}
        self.relays: list[int] = []
        self._names = iter(range(10**6))
        self.kills: Counter[str] = Counter()

    def produce(self, conversations: int, turns: int, pause: float) -> None:
        """Start a producer."""
        name = f"p{next(self._names)}"
        child = self.nursery.start(
            "produce", log=str(self.log), name=name, conversations=conversations, turns=turns, pause=pause
        )
        self.producers[child] = name

    def add_relay(self) -> None:
        """Start a relay."""
        self.relays.append(self.nursery.start("relay"))

    def kill_one(self, work: tuple[int, int, float]) -> None:
        """Kill a producer or a relay, and start another in its place."""
        running = [child for child in self.producers if self.nursery.runs(child)]
        if self.relays and (not running or self.random.random() < 0.6):
            victim = self.random.choice(self.relays)
            self.relays.remove(victim)
            self.nursery.kill(victim)
            self.add_relay()
            self.kills["relay"] += 1
        elif running:
            self.nursery.kill(self.random.choice(running))
            self.produce(*work)
            self.kills["producer"] += 1

    # -- the outcome -------------------------------------------------------------------------------------------------

    def handed_over(self) -> tuple[dict[str, int], set[str]]:
        """By conversation, how many messages were surely handed over; and the producers that ended by themselves."""
        found: dict[str, int] = {}
        ended = set()
        for line in self.log.read_text().splitlines():
            key, _, number = line.partition(" ")
            if number == "ended":
                ended.add(key)
            elif number.isdecimal():
                found[key] = int(number)
        return found, ended

    def stored(self) -> dict[str, list[tuple[str, list[str]]]]:
        """By conversation, what the API holds: the status and the texts of each that it has."""
        found: dict[str, list[tuple[str, list[str]]]] = {}
        for conversation in self.api.store.conversations(limit=10**6)[0]:
            texts = [m["content"] for m in self.api.store.messages(conversation) if "/" in m["content"]]
            key = texts[0].partition("/")[0] if texts else conversation.id
            found.setdefault(key, []).append((conversation.status, texts))
        return found

    def wrong(self) -> list[str]:
        """Say what is not as promised: each turn once, in order, completed once."""
        said = []
        stored = self.stored()
        for key, least in self.handed_over()[0].items():
            held = stored.pop(key, [])
            texts = [text for _, each in held for text in each]
            if texts != [f"{key}/{number}" for number in range(len(texts))]:
                said.append(f"{key}: {texts}")
            if len(texts) < least:
                said.append(f"{key}: {len(texts)} of {least}")
            if [status for status, _ in held] != ["completed"]:
                said.append(f"{key}: {[status for status, _ in held]}")
        for key, held in stored.items():  # killed before anything was noted: a part of it may be there
            texts = [text for _, each in held for text in each]
            if texts != [f"{key}/{number}" for number in range(len(texts))]:
                said.append(f"{key}: {texts}")
            if [status for status, _ in held] not in (["completed"], ["abandoned"]):
                said.append(f"{key}: {[status for status, _ in held]}")
        return said

    def settle(self, seconds: float = LONG) -> list[str]:
        """Wait until all producers have ended and all is as promised; return what is not."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(self.nursery.runs(child) for child in self.producers):
            time.sleep(0.05)
        while (wrong := self.wrong()) and time.monotonic() < until:
            time.sleep(0.2)
        return wrong

    def close(self) -> None:
        """End all processes."""
        self.nursery.close()
