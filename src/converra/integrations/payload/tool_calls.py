"""The tool calls of a streamed message, put together from their fragments.

OpenAI numbers the calls, and sends id and name with the first fragment of each. Servers that imitate it leave any of
that out, send it again with every fragment, or number all calls 0. A fragment belongs, in this order, to:

=============================  =======================================================================================
what the fragment has          the call it belongs to
=============================  =======================================================================================
a known id                     the one with that id (and that index, where several share an id)
no id and no name              the latest with that index; without an index, the latest of all
another name                   a new one
another id, and a name         a new one, unless it continues the middle of that call's JSON
another id alone, or the       the latest with that index, unless that call's JSON is whole: then the fragment begins
same name again                a new one
=============================  =======================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from converra.history.arguments import is_blank, parse
from converra.integrations.payload.extras import Unread
from converra.integrations.payload.fields import fields, plain, string
from converra.wire import json_safe
from converra.wire.json_safe import identifier, joined, text

if TYPE_CHECKING:
    from converra.history.turn import SourceToolCall

OPENING, CLOSING = ("{", "["), ("}", "]")

TOOL_CALL = frozenset({"id", "type", "index", "function", "custom"})
"""Fields of a tool call that are read, or left out on purpose. All others are kept in the answer's metadata."""


def meant(made: tuple[SourceToolCall, ...]) -> tuple[SourceToolCall, ...]:
    """Leave out the empty calls that gateways put beside a text."""
    return tuple([called for called in made if called.is_meant])


def unnamed(made: tuple[SourceToolCall, ...]) -> dict[str, Any]:
    """Metadata that keeps arguments of which nothing says what they were for."""
    lost = [called.arguments for called in made if not called.is_meant and not is_blank(called.arguments)]
    return {"unnamedCalls": lost} if lost else {}


class StreamedCalls:
    """The calls of one choice, in the order in which they began."""

    def __init__(self) -> None:
        self._calls: list[CallPieces] = []
        self._latest: CallPieces | None = None
        self._by_index: dict[Any, CallPieces] = {}
        self._by_id: dict[Any, CallPieces] = {}
        """By id, and by index and id."""

    def __bool__(self) -> bool:
        return bool(self._calls)

    def feed(self, own: dict[str, Any]) -> None:
        """Read one fragment, an element of `delta.tool_calls`. Nearly all are a piece of a call that has an index."""
        index, call_id, called = own.get("index"), own.get("id"), fields(own.get("function"))
        if index.__class__ is int and (call_id is None or call_id == "") and not called.get("name"):
            pieces, fragment = self._by_index.get(index), called.get("arguments")
            size = len(own)  # no fields besides these four, or besides index and function: `keys()` costs twice as much
            usual = size == 2 or (size == 4 and "id" in own and "type" in own)  # noqa: PLR2004 - see above
            if usual and pieces is not None and fragment.__class__ is str:
                pieces.fragments.append(fragment)
                self._latest = pieces
                return
        self._feed(own, called or fields(own.get("custom")))

    def _feed(self, own: dict[str, Any], called: dict[str, Any]) -> None:
        index = own.get("index")
        index = index if type(index) is int else identifier(index)
        call_id, name = identifier(own.get("id")), string(called.get("name"))
        fragment = called.get("arguments", called.get("input"))
        pieces = self._known(index, call_id, name) if call_id or name else self._at(index)
        if pieces is None or ((call_id or name) and pieces.is_over(call_id, name, fragment)):
            if not (call_id or name or fragment):
                return  # an empty call of a gateway
            pieces = self._begin(index, call_id, name, fragment, pieces)
        pieces.merge(call_id, name, fragment)
        if own.keys() - TOOL_CALL:
            pieces.extras.note(own)
        self._note(pieces, index)

    def tool_calls(self) -> list[dict[str, Any]]:
        """Return the calls as they would be without streaming; more fragments may follow."""
        merged: list[CallPieces] = []
        holders: dict[CallPieces, CallPieces] = {}
        for pieces in list(self._calls):
            holder = holders.get(pieces.before) if pieces.before else None
            if holder is None or not holder.take(pieces):
                holder = pieces.copied()
                merged.append(holder)
            holders[pieces] = holder
        return [pieces.tool_call() for pieces in merged]

    def _known(self, index: Any, call_id: str | None, name: str | None) -> CallPieces | None:
        if call_id:
            found = self._by_id.get((index, call_id))
            if found is not None:
                return found
            found = self._by_id.get(call_id)
            if found is not None and not (name and index is not None and found.index is not None):
                return found
        return self._at(index)

    def _at(self, index: Any) -> CallPieces | None:
        """Find the latest call with an index; a call may get its index late."""
        latest = self._latest
        if index is None or (latest is not None and latest.index is None and index not in self._by_index):
            return latest
        return self._by_index.get(index)

    def _begin(
        self, index: Any, call_id: str | None, name: str | None, fragment: Any, before: CallPieces | None
    ) -> CallPieces:
        """Begin a call. It may turn out to continue `before`, where only its JSON distinguishes them."""
        another = before is None or before.differs(call_id, name, fragment)
        pieces = CallPieces(index, None if another else before)
        self._calls.append(pieces)
        return pieces

    def _note(self, pieces: CallPieces, index: Any) -> None:
        self._latest = pieces
        if index is not None:
            pieces.index = index
            self._by_index[index] = pieces
        if pieces.id:
            self._by_id[pieces.id] = self._by_id[pieces.index, pieces.id] = pieces


class CallPieces:
    """One call; its arguments come in fragments, which some servers send parsed."""

    __slots__ = ("_parsed", "before", "extras", "fragments", "id", "index", "name")

    def __init__(self, index: Any = None, before: CallPieces | None = None) -> None:
        self.index: Any = index
        self.id: str | None = None
        self.name: str | None = None
        self.before: CallPieces | None = before
        """The call that this one may continue."""
        self.fragments: list[Any] = []
        self.extras: Unread = Unread(TOOL_CALL)
        """Fields beside the function, such as the signature of a thought."""
        self._parsed = False
        """True if a fragment is not text."""

    def merge(self, call_id: str | None, name: str | None, fragment: Any) -> None:
        """Add a fragment; ids and names that come again, or another id with every fragment, change nothing."""
        self.id = self.id or call_id or None
        self.name = self.name or name or None
        if fragment is not None:
            if not isinstance(fragment, str):
                self._parsed, fragment = True, plain(fragment)
            self.fragments.append(fragment)

    def copied(self) -> CallPieces:
        """Return a copy, to which other calls can be added."""
        copy = CallPieces(self.index)
        copy.id, copy.name, copy._parsed = self.id, self.name, self._parsed
        copy.fragments = self.fragments.copy()
        copy.extras.note(self.extras.fields)
        return copy

    def is_over(self, call_id: str | None, name: str | None, fragment: Any) -> bool:
        """Return True if a fragment with an id or a name begins another call, or may do so."""
        return self.differs(call_id, name, fragment) or (
            not (call_id and call_id == self.id and not name) and self._is_closed() and not _continues(fragment)
        )

    def differs(self, call_id: str | None, name: str | None, fragment: Any) -> bool:
        """Return True if id or name say that a fragment begins another call."""
        if not name:
            return False
        if self.name and name != self.name:
            return True
        other = bool(call_id and self.id and call_id != self.id)
        return other and not (self._last() is not None and not self._is_closed() and _continues(fragment))

    def take(self, later: CallPieces) -> bool:
        """Add a later call that is a part of this one, or the same once more; False if it is a call of its own."""
        again = not later.id or later.id == self.id
        if again and later._last() is None:
            pass
        elif self._is_whole():
            if not (later.id and again and later.arguments() == self.arguments()):
                return False
        else:
            self.fragments += later.fragments
            self._parsed = self._parsed or later._parsed
        self.id, self.name = self.id or later.id, self.name or later.name
        self.extras.note(later.extras.fields)
        return True

    def arguments(self) -> Any:
        """Return all arguments: text, or what a server had parsed."""
        return assembled(self.fragments) if self._parsed else joined(self.fragments)

    def function(self) -> dict[str, Any]:
        """Name and arguments."""
        return {"name": self.name, "arguments": self.arguments()}

    def tool_call(self) -> dict[str, Any]:
        """Return the call as an element of `message.tool_calls`."""
        return {**self.extras.fields, "id": self.id, "function": self.function()}

    def _last(self) -> Any:
        """Return the last fragment that is not blank."""
        return next((f for f in reversed(self.fragments) if not isinstance(f, str) or f.strip()), None)

    def _is_closed(self) -> bool:
        """Return True if the JSON may be complete, by its last character."""
        last = self._last()
        return last is not None and (not isinstance(last, str) or last.rstrip().endswith(CLOSING))

    def _is_whole(self) -> bool:
        found = self.arguments()
        return not isinstance(found, str) or isinstance(parse(text(found)), dict | list)


def assembled(fragments: list[Any]) -> Any:
    """Put fragments together, of which any may be parsed already: the only one as it is, objects as one object."""
    filled = [fragment for fragment in fragments if not isinstance(fragment, str) or fragment.strip()]
    objects = [fragment for fragment in filled if isinstance(fragment, dict)]
    if objects and len(objects) == len(filled):
        return {key: value for fragment in objects for key, value in fragment.items()}
    if len(filled) == 1:
        return filled[0]
    return joined(one if isinstance(one, str) else msgspec.json.encode(json_safe.plain(one)).decode() for one in filled)


def _continues(fragment: Any) -> bool:
    """Return True if a fragment is text that does not open an object."""
    return isinstance(fragment, str) and bool(fragment.strip()) and not fragment.lstrip().startswith(OPENING)
