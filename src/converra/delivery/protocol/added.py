"""Messages that delivery adds, since each request must hold one; they are not counted. Pure.

===================  ===================================================================================
message              added to
===================  ===================================================================================
the first words      a create that holds no recorded message
the closing message  an append that completes a conversation in which nothing waits
a carrier            an append with metadata that the app has set, while no message waits to take it along
===================  ===================================================================================

A carrier is made only on request, since the next message or the end mostly takes the metadata along: for a flush, when
a block with `keep_open` is left, and for metadata that is set in such a session outside a block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.delivery.protocol.entry import synthetic
from converra.delivery.protocol.late_errors import LATE_ERRORS
from converra.wire.models import CARRYING_WORDS, CLOSING_WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converra.delivery.protocol.entry import EncodedMessage
    from converra.delivery.protocol.progress import Batch, Progress

OPENING_WORDS = "Conversation started."
CONTINUING_WORDS = "Conversation continued."


_OWN = frozenset({"tools", LATE_ERRORS})
"""Names of metadata that the recorder sets by itself."""


def is_the_apps(metadata: Mapping[str, Any]) -> bool:
    """Report whether the app has set the metadata, as far as the names show: an outbox keeps no more."""
    return not metadata.keys() <= _OWN


def first_words(progress: Progress) -> EncodedMessage:
    """Make the message of a create that holds no recorded one."""
    return synthetic(CONTINUING_WORDS if progress.state.previous else OPENING_WORDS, f"{progress.key}:begin")


def instead_of_entries(progress: Progress, batch: Batch) -> EncodedMessage:
    """Make the message of an append that holds no recorded one."""
    return closing(progress) if batch.completes else carrier(progress)


def closing(progress: Progress) -> EncodedMessage:
    """Make the message that completes a conversation."""
    return synthetic(CLOSING_WORDS, f"{progress.key}:end")


def carrier(progress: Progress) -> EncodedMessage:
    """Make the message that carries metadata; its id is the same until it is stored."""
    return synthetic(CARRYING_WORDS, f"{progress.key}:{progress.writer}:metadata{progress.state.appended}")
