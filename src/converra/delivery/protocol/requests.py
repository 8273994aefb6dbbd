"""From a step to the request that carries it out. Pure."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from converra.api import operations
from converra.api.operations import Operation
from converra.api.results import Conversation
from converra.delivery.protocol import joining
from converra.delivery.protocol.entry import fields_of
from converra.wire import details
from converra.wire.models import encode

if TYPE_CHECKING:
    from converra.delivery.protocol.progress import Batch, Opening, Progress


class Accepted(msgspec.Struct):
    """What is read of the answer to an append: that it is one. The whole conversation in it is skipped, not decoded."""

    id: Any = None
    status: Any = None


def create(progress: Progress, opening: Opening) -> Operation[Conversation]:
    """POST /conversations."""
    header = progress.header
    return operations.create_conversation(
        prompt_id=header.prompt_id,
        content=_content(progress, opening),
        status=opening.status or None,  # type: ignore[arg-type]  # one of Status by construction
        llm_model=_model(progress),
        company_name=header.company_name,
        idempotency_key=progress.key,
    )


def _model(progress: Progress) -> str | None:
    """The model of the first answer that waits: what the conversation is opened with."""
    answers = (entry for entry in progress.entries if entry.role in ("assistant", "tool"))
    models = (msgspec.json.decode(entry.raw).get("model") for entry in islice(answers, _FIRST_ANSWERS))
    return next(filter(None, models), None)


def append(progress: Progress, batch: Batch) -> Operation[Accepted]:
    """POST /conversations/:id/messages."""
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


def read_back(progress: Progress) -> Operation[Conversation]:
    """GET /conversations/:id, read as the API shows it: ids among the details of a create say nothing of an append."""
    operation = operations.get_conversation(progress.state.id or "", include_insights=False)
    return msgspec.structs.replace(operation, read=Conversation.read_as_sent)


_FIRST_ANSWERS = 4

_accepted = msgspec.json.Decoder(Accepted)


def _content(progress: Progress, opening: Opening) -> str:
    held, found = details.detach([fields_of(entry) for entry in islice(progress.entries, opening.entries)])
    metadata = progress.state.annotations | progress.state.metadata
    if progress.writer:
        metadata[progress.mark] = progress.writer
        already_known = joining.signs(progress.entries)
        metadata |= {joining.LEARNED: already_known} if already_known else {}
    messages = held or details.detach([fields_of(progress.first_words)])[0]
    return encode({"messages": messages, "metadata": details.add(metadata, found)}).decode()
