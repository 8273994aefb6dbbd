"""The API of this server for a recorder in the same process: no socket, no JSON of answers, and the same rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from converra.errors import APIResponse, error_class
from converra.server.api import answers, storing, validation
from converra.server.api.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from converra.api.operations import Operation
    from converra.server.store.conversations import Store
    from converra.server.store.records import Conversation

T = TypeVar("T")


class StoreConnection:
    """Implements `delivery.worker.transport.Connection`: performs the operations of one account on a store.

    Bodies are not checked against the schemas, which takes longer than storing them: our own delivery has made them.
    The limits of a conversation are kept.

    Args:
        store: Where the conversations go.
        account: The fingerprint of the account's key.
        updated: Called after each append, with the conversation before and after it.

    """

    limit_headers: Mapping[str, str] | None = None

    def __init__(self, store: Store, account: str, updated: Callable[[Conversation, Conversation], None]) -> None:
        self._store = store
        self._account = account
        self._updated = updated

    def send(self, operation: Operation[T], *, timeout: float | None = None) -> T:  # noqa: ARG002 - it never waits
        """Perform an operation, and return what its answer says.

        Raises:
            APIStatusError: The API would refuse it; the class tells the status.

        """
        try:
            return operation.read(msgspec.json.encode(self._performed(operation)))
        except Refusal as refusal:
            raise error_class(refusal.status)(
                refusal.message,
                status_code=refusal.status,
                code=refusal.code,
                details=refusal.details,
                headers={},
                response=APIResponse(operation.method, operation.path, refusal.status, {}, b""),
            ) from refusal

    def close(self) -> None:
        """Do nothing: no socket is open."""

    def abandon(self) -> None:
        """Do nothing, as above."""

    def _performed(self, operation: Operation[Any]) -> dict[str, Any]:
        conversation_id = (*operation.path.split("/"), "")[2]
        if operation.method == "GET":
            found = storing.find(self._store, self._account, conversation_id)
            return answers.as_sent(found, self._store.sent(found))
        body = validation.decode(operation.body or b"")
        if not conversation_id:
            created = storing.create(self._store, self._account, body)
            return {"id": created.id, "status": created.status}
        appended = storing.append(self._store, self._account, conversation_id, body)
        self._updated(appended.before, appended.after)
        return {"id": appended.after.id, "status": appended.after.status}
