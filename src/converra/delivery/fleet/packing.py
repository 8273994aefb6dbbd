"""Packing: makes entries of the commands of callers, one for each conversation and hand-over, and numbers them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from converra.delivery.conversation_queue import Annotate, Append, ConversationQueue, End, FlushRequest, SendNow
from converra.delivery.fleet import entry
from converra.wire import json_safe

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from converra.delivery.conversation_queue import Command
    from converra.delivery.outbox.memory import MemoryOutbox
    from converra.delivery.stats import Counters


class Parcel(NamedTuple):
    """An encoded entry, with the messages in it and the room that they take in memory."""

    place: int
    body: bytes
    messages: int
    charge: int


class Packer:
    """Packs what this process records. One worker at a time uses it.

    Args:
        outbox: Holds the messages until they are packed.
        counters: Count messages that are withheld or cannot be built.
        put: Takes each parcel, in order.
        opens: Takes each conversation with its first entry.

    """

    def __init__(
        self,
        outbox: MemoryOutbox,
        counters: Counters,
        put: Callable[[Parcel], None],
        opens: Callable[[ConversationQueue], None],
    ) -> None:
        self.producer: str = os.urandom(8).hex()
        """Names this process in its entries."""
        self.number: int = 0
        """Entries so far."""
        self._outbox = outbox
        self._counters = counters
        self._put = put
        self._opens = opens
        self._open: set[ConversationQueue] = set()
        self._owing: set[ConversationQueue] = set()
        """Conversations whose metadata was packed after their last message."""

    def pack(self, commands: deque[Command]) -> list[FlushRequest]:
        """Make one entry for each conversation of what the commands bring; return the requests among them."""
        requests: list[FlushRequest] = []
        made: dict[ConversationQueue, entry.Entry] = {}
        charges: dict[ConversationQueue, int] = {}
        while commands:
            command = commands.popleft()
            if isinstance(command, FlushRequest):
                requests.append(command)
                self._flush(command, made, charges)
            elif isinstance(command, Append):
                self._append(command, made, charges)
            elif isinstance(command, Annotate):
                self._annotate(command, made, charges)
            elif isinstance(command, SendNow):
                self._carry(command.queue, made, charges)
            elif isinstance(command, End):
                ending = self._entry(command.queue, made, charges)
                ending.ended, ending.always = True, ending.always or command.always
                self._open.discard(command.queue)
                self._owing.discard(command.queue)
        for queue, one in made.items():
            self._add(one, charges[queue])
        return requests

    def _flush(
        self, request: FlushRequest, made: dict[ConversationQueue, entry.Entry], charges: dict[ConversationQueue, int]
    ) -> None:
        for queue in list(self._owing):
            self._carry(queue, made, charges)
        if request.ends:
            for queue in [queue for queue in self._open if not queue.header.shared]:
                self._entry(queue, made, charges).ended = True
                self._open.discard(queue)

    def _annotate(
        self, command: Annotate, made: dict[ConversationQueue, entry.Entry], charges: dict[ConversationQueue, int]
    ) -> None:
        one = self._entry(command.queue, made, charges)
        one.notes |= json_safe.plain(command.metadata)
        one.carry = one.carry or command.soon
        if command.alone:
            self._owing.add(command.queue)

    def _carry(
        self,
        queue: ConversationQueue,
        made: dict[ConversationQueue, entry.Entry],
        charges: dict[ConversationQueue, int],
    ) -> None:
        """Have a relay deliver the metadata, if no message has taken it along."""
        if queue in self._owing:
            self._owing.discard(queue)
            self._entry(queue, made, charges).carry = True

    def _append(
        self, command: Append, made: dict[ConversationQueue, entry.Entry], charges: dict[ConversationQueue, int]
    ) -> None:
        queue = command.queue
        self._open.add(queue)
        self._owing.discard(queue)
        for draft in command.items:
            messages = self._outbox.entries(command.since, draft)
            if messages is None:
                self._counters.add(rejected=1)
                continue
            if not messages:
                self._counters.add(withheld=1)
                continue
            one = self._entry(queue, made, charges)
            if len(one.messages) >= entry.MAX_MESSAGES or one.ended:
                self._add(made.pop(queue), charges.pop(queue))
                one = self._entry(queue, made, charges)
            at = one.at - (time.monotonic() - command.since)
            for message in messages:
                one.messages.append(entry.Packed(message.raw, message.id, at, message.whole, message.already_known))
                charges[queue] += message.charge

    def _entry(
        self,
        queue: ConversationQueue,
        made: dict[ConversationQueue, entry.Entry],
        charges: dict[ConversationQueue, int],
    ) -> entry.Entry:
        """Return the entry of a conversation in this batch."""
        if queue in made:
            return made[queue]
        header = None
        if not queue.rows.row:  # the first: it says how to open the conversation
            header = msgspec.structs.replace(queue.header, metadata=json_safe.plain(queue.header.metadata))
            queue.rows.row = 1
            self._opens(queue)
        charges[queue] = 0
        made[queue] = entry.Entry(
            key=queue.header.key,
            prompt_id=queue.header.prompt_id,
            producer=self.producer,
            number=0,
            at=time.time(),
            header=header,
            writer=queue.writer,
        )
        return made[queue]

    def _add(self, one: entry.Entry, charge: int) -> None:
        """Number an entry and put it into its lane."""
        self.number += 1
        one.number = self.number
        place, messages = entry.place_of(one.key), sum(message.whole for message in one.messages)
        self._put(Parcel(place, entry.encode(one), messages, charge))
