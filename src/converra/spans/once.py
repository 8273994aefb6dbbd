"""One call, several spans: the call may also be captured directly, or two emitters may each make a span of it. Pure.

================================  ====================================================================================
the call is also                  the span makes no turn if
================================  ====================================================================================
captured directly                 a rule of `capture/sightings.py` recognises it, unless both know the provider's id of
                                  the answer and the ids differ
a span inside of this one         that one is a call too, and is recorded or has content, or this one has none
a span around this one            that one is a call too, and is recorded, or has the content that this one lacks
================================  ====================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from converra.spans.family import Member, number
from converra.spans.reading import ModelCall, ToolRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converra.capture.sightings import Sighting, Sightings
    from converra.spans.family import Family


def is_told_elsewhere(member: Member, call: ModelCall, family: Family, sightings: Sightings | None) -> bool:
    """Report whether the turn of a call is recorded from elsewhere."""
    if sightings is not None and _is_captured(member, call, family, sightings):
        return True
    inner_calls = (inner for inner in family.inside(member) if inner.reading is ModelCall)
    if any(inner.is_recorded or inner.has_content or not call.has_content for inner in inner_calls):
        return True
    return any(
        outer.is_recorded or (outer.has_content and not call.has_content) for outer in _calls_around(member, family)
    )


def _calls_around(member: Member, family: Family) -> Iterator[Member]:
    """Yield the calls of a model around a span; a call that a tool makes is another one than that around the tool."""
    for outer in family.around(member):
        if isinstance(outer, Member):
            if outer.reading is ToolRun:
                return
            if outer.reading is ModelCall:
                yield outer


def _is_captured(member: Member, call: ModelCall, family: Family, sightings: Sightings) -> bool:
    if call.response_id is not None and call.response_id in sightings.answers:
        return True
    return any(not _differs(sighting, call) for sighting in _sightings(member, family, sightings))


def _sightings(member: Member, family: Family, sightings: Sightings) -> Iterator[Sighting]:
    """Yield the captured calls that began around or inside of a span."""
    own = number(member.span_id)
    for known in (sightings.inside, sightings.around):
        if own in known:
            yield known[own]
    for outer in family.around(member):
        found = sightings.inside.get(number(outer.span_id) if isinstance(outer, Member) else outer.span.context.span_id)
        if found is not None:
            yield found
    for inner in family.inside(member):
        inside = number(inner.span_id)
        for known in (sightings.inside, sightings.around):
            if inside in known:
                yield known[inside]


def _differs(sighting: Sighting, call: ModelCall) -> bool:
    """Report whether both know the id of the answer, in the same provider's form, and the ids differ."""
    ours, theirs = sighting.response_id, call.response_id
    if sighting.is_void:
        return True
    return bool(ours and theirs and ours != theirs and _form(ours) == _form(theirs))


def _form(response_id: str) -> str:
    """Return the beginning of an id that tells its kind, such as `chatcmpl`."""
    return response_id.partition("-")[0].partition("_")[0]
