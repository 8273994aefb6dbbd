"""The output items of a streamed response, put together from its events.

Events say by `output_index` and by `item_id` to which item they belong. Servers that imitate OpenAI number all items 0
or not at all, leave ids out, or make up a new one for each event. So an item is found by both, by its id, or by its
index, in this order, among those that are not finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converra.integrations.payload.fields import copied
from converra.integrations.payload.tool_calls import assembled
from converra.wire.json_safe import identifier, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

MESSAGE = "message"


class StreamedItems:
    """The items that have begun, in the order in which they did."""

    def __init__(self) -> None:
        self._items: list[StreamedItem] = []

    @property
    def finished(self) -> int:
        """Number of finished items."""
        return sum(item.done is not None for item in self._items)

    def begin(self, event: dict[str, Any]) -> None:
        """Read an `output_item.added`."""
        own, index = _item(event), event.get("output_index")
        item = self._exact(index, identifier(own.get("id")), own) or self._add(index, identifier(own.get("id")))
        item.begun = own

    def finish(self, event: dict[str, Any]) -> None:
        """Read an `output_item.done`; one that comes again changes nothing."""
        own, index = _item(event), event.get("output_index")
        item_id = identifier(own.get("id"))
        item = self._find(index, item_id, own, oldest=True)
        if item is None and item_id and any(_same(own, other.done) for other in self._items):
            return
        item = item or self._add(index, item_id)
        item.done = own

    def pieces(self, event: dict[str, Any], kind: str) -> list[Any] | None:
        """Find the list that fragments of a kind go to; None for arguments of a call that was not announced."""
        index, item_id = event.get("output_index"), identifier(event.get("item_id"))
        item = self._find(index, item_id, kind)
        if item is None:
            if kind == "arguments":
                return None
            item = self._add(index, item_id)
            item.begun = {"type": MESSAGE, "role": "assistant"}
        at = event.get("content_index")
        return item.deltas.setdefault((at if isinstance(at, int) else 0, kind), [])

    def whole(self) -> list[dict[str, Any]]:
        """Return all items as far as they came, in the order of their indexes if these are distinct."""
        found = list(self._items)
        indexes = [item.index for item in found if isinstance(item.index, int)]
        if len(set(indexes)) == len(found):
            found.sort(key=lambda item: item.index)
        return [item.whole() for item in found]

    def _add(self, index: Any, item_id: str | None) -> StreamedItem:
        item = StreamedItem(index, item_id)
        self._items.append(item)
        return item

    def _exact(self, index: Any, item_id: str | None, sought: Any) -> StreamedItem | None:
        """Find the open item with this index and id."""
        fitting = (item for item in reversed(self._items) if item.is_open_to(sought))
        return next((item for item in fitting if item_id and (item.index, item.id) == (index, item_id)), None)

    def _find(self, index: Any, item_id: str | None, sought: Any, *, oldest: bool = False) -> StreamedItem | None:
        """Find the open item of an event: fragments go to the latest that fits."""
        fitting = [item for item in self._items if item.is_open_to(sought)]
        if not oldest:
            fitting.reverse()
        by_id = [item for item in fitting if item_id and item.id == item_id]
        found = next((item for item in by_id if item.index == index), by_id[0] if by_id else None)
        if found is not None:
            found.confirmed = True
            return found
        maybe = (item for item in fitting if not (item_id and item.id and item.confirmed))
        return next((item for item in maybe if item.index == index or not item.is_numbered(index)), None)


class StreamedItem:
    """One item: what was announced of it, its fragments, and all of it once it is whole."""

    __slots__ = ("begun", "confirmed", "deltas", "done", "id", "index")

    def __init__(self, index: Any, item_id: str | None) -> None:
        self.index: Any = index
        self.id: str | None = item_id
        self.confirmed: bool = False
        """Another event had the same id: it is no invention of one event."""
        self.begun: dict[str, Any] = {}
        self.done: dict[str, Any] | None = None
        self.deltas: dict[tuple[int, str], list[Any]] = {}
        """Content index and kind → fragments."""

    def is_open_to(self, sought: Any) -> bool:
        """Return True if unfinished and fitting `sought`: a kind of fragments, or an item."""
        if self.done is not None:
            return False
        kind = self.begun.get("type", MESSAGE)
        if isinstance(sought, str):
            return bool((kind == MESSAGE) == (sought != "arguments"))
        own, other = identifier(self.begun.get("call_id")), identifier(sought.get("call_id"))
        return bool(kind == sought.get("type", MESSAGE) and (own == other or not (own and other)))

    def is_numbered(self, index: Any) -> bool:
        """Return True if both this item and an event have an index."""
        return isinstance(index, int) and isinstance(self.index, int)

    def whole(self) -> dict[str, Any]:
        """Return the finished item, or build it from its fragments."""
        if self.done is not None:
            return self.done
        item, deltas = dict(self.begun), list(self.deltas.items())
        if "arguments" in item or "input" in item:
            field = "arguments" if "arguments" in item else "input"
            item[field] = assembled([one for (_, kind), pieces in deltas if kind == "arguments" for one in pieces])
        elif item.get("type") == MESSAGE:
            parts = sorted(deltas, key=lambda pair: pair[0][0])
            item["content"] = [_part(kind, pieces) for (_, kind), pieces in parts]
        return item


def _item(event: dict[str, Any]) -> dict[str, Any]:
    """Return the item of an event as plain data; an empty one if it has none."""
    item = copied(event.get("item"))
    return item if isinstance(item, dict) else {}


def _same(one: dict[str, Any], other: dict[str, Any] | None) -> bool:
    """Return True if two finished items are the same one, sent twice: the status may differ."""
    return other is not None and {**one, "status": None} == {**other, "status": None}


def _part(kind: str, pieces: Iterable[str]) -> dict[str, Any]:
    text = joined(pieces)
    return {"type": "refusal", "refusal": text} if kind == "refusal" else {"type": "output_text", "text": text}
