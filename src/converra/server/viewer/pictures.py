"""Pictures of attachments, where their bytes are on this machine.

A message records a picture by size and digest only. Its bytes are here if the message embeds them, or if the log has
the request that brought the turn to the stand-in model.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from converra.server.store.totals import mapping
from converra.server.viewer.markdown import PICTURE
from converra.server.viewer.pages import FILE_HEADERS, missing, number, page, store_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlette.requests import Request

    from converra.server.store.conversations import Store
    from converra.server.viewer.resending import Resending

_EMBEDDED = re.compile(rb"data:(image/(?:png|jpeg|gif|webp));base64,([A-Za-z0-9+/=]+)")
_LOOKED_UP = 20
"""Requests that one page looks into."""
_EMBEDDED_CHARACTERS = 1_000_000
"""Larger pictures of a message are not put into the page."""


class Picture(NamedTuple):
    """A picture of a logged request."""

    sha256: str
    media_type: str
    content: bytes


def routes() -> list[BaseRoute]:
    """A picture by the request that brought it, and its digest."""
    return [Route("/requests/{number}/pictures/{sha256}", page(picture))]


def picture(request: Request) -> Response:
    """Return the bytes of a picture."""
    found = _of_request(store_of(request), number(request.path_params["number"], least=0))
    shown = next((each for each in found if each.sha256 == request.path_params["sha256"]), None)
    if shown is None:
        return missing(request, "picture")
    headers = FILE_HEADERS | {"Cross-Origin-Resource-Policy": "same-origin"}
    return Response(shown.content, 200, headers, shown.media_type)


def addresses(
    store: Store, messages: Sequence[Mapping[str, Any]], resendings: Mapping[int, Resending], among: range
) -> dict[int, list[str]]:
    """Return the addresses of the pictures that can be shown, by the places of their messages."""
    answers = sorted(resendings)
    shown: dict[int, list[str]] = {}
    left = _LOOKED_UP
    for at in among:
        attachments = _attachments(messages[at])
        found = list(_embedded(attachments))
        digests = {str(each["sha256"]) for each in attachments if "sha256" in each}
        answer = next((place for place in answers if place >= at), None)
        if digests and answer is not None and left:
            left -= 1
            logged = resendings[answer].request
            held = {each.sha256 for each in _of_request(store, logged)}
            found += [f"/requests/{logged}/pictures/{digest}" for digest in sorted(digests & held)]
        if found:
            shown[at] = found
    return shown


def embedded(messages: Sequence[Mapping[str, Any]]) -> dict[int, list[str]]:
    """Return the pictures that the messages embed, by their places."""
    return {at: found for at, message in enumerate(messages) if (found := list(_embedded(_attachments(message))))}


def _embedded(attachments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for attachment in attachments:
        url = attachment.get("url")
        if isinstance(url, str) and len(url) <= _EMBEDDED_CHARACTERS and PICTURE.fullmatch(url):
            yield url


def _attachments(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = mapping(message.get("metadata")).get("attachments")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _of_request(store: Store, logged: int) -> Iterator[Picture]:
    found = store.log.find(logged)
    for match in _EMBEDDED.finditer(found.body if found else b""):
        try:
            content = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            continue
        yield Picture(hashlib.sha256(content).hexdigest(), match[1].decode(), content)
