"""The request that carries out a step of a delivery."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from converra.api import operations
from converra.api.operations import Operation
from converra.api.results import StoredConversation
from converra.delivery.protocol import joining
from converra.wire import details
from converra.wire.models import encode

if TYPE_CHECKING:
    from converra.delivery.protocol.progress import Batch, Opening, Progress

_FIRST_ANSWERS = 4
"""Waiting answers that are searched for the conversation's model: the first may be an error that names none."""


class Accepted(msgspec.Struct):
    """The answer to an append. The conversation that it holds is skipped, not decoded: it may have 500 messages."""

    id: Any = None
    status: Any = None


_accepted = msgspec.json.Decoder(Accepted)


def create(progress: Progress, opening: Opening) -> Operation[StoredConversation]:
    """Create the conversation (API document, "Create Conversation")."""
    header = progress.header
    return operations.create_encoded(
        prompt_id=header.prompt_id,
        content=_content(progress, opening),
        status=opening.status or None,  # type: ignore[arg-type]  # one of Status by construction
        llm_model=_model(progress),
        company_name=header.company_name,
        idempotency_key=progress.key,
    )


def _content(progress: Progress, opening: Opening) -> str:
    """Put the content field together from messages that are encoded already."""
    sent = list(islice(progress.entries, opening.entries))
    found = {str(at): msgspec.Raw(fields) for at, entry in enumerate(sent) if (fields := entry.details) is not None}
    metadata = progress.state.annotations | progress.state.metadata
    if progress.writer:
        metadata[joining.OPENED_BY] = progress.writer
        signatures = joining.signatures(progress.entries)
        if signatures:
            metadata[joining.SIGNATURES] = signatures
    messages = [msgspec.Raw(entry.content_fields) for entry in sent or [progress.first_words]]
    return encode({"messages": messages, "metadata": details.add(metadata, found)}).decode()


def _model(progress: Progress) -> str | None:
    """Find the model that the conversation is created with: that of the first waiting answer that names one."""
    answers = (entry for entry in progress.entries if entry.role in ("assistant", "tool"))
    return next((entry.model for entry in islice(answers, _FIRST_ANSWERS) if entry.model), None)


def append(progress: Progress, batch: Batch) -> Operation[Accepted]:
    """Append messages (API document, "Append Messages")."""
    sent = islice(progress.entries, batch.entries) if batch.entries else (progress.closing,)
    operation = operations.append_encoded(
        progress.state.id or "",
        [entry.raw for entry in sent],
        status="completed" if batch.completes else None,
        metadata=batch.metadata,
    )
    return Operation(
        method=operation.method, path=operation.path, body=operation.body, read=_accepted.decode, idempotent=False
    )


def read_back(progress: Progress) -> Operation[StoredConversation]:
    """Get the conversation (API document, "Get Conversation"), with the details of its messages left in its metadata.

    They hold the ids of the messages of the create, which must not be taken for messages of an append.
    """
    operation = operations.get_conversation(progress.state.id or "", include_insights=False)
    return msgspec.structs.replace(operation, read=StoredConversation.read_as_sent)
