"""The picture of the viewer in the README is of the viewer as it is."""

from __future__ import annotations

import struct

from converra.server.run import serve
from scripts import viewer_picture


def test_the_picture_of_the_viewer_is_current() -> None:
    """The photographed page has the words that the page of the same conversation has now."""
    with serve() as server:
        page = viewer_picture.page(viewer_picture.recorded(server))
    assert viewer_picture.WORDS.read_text("utf-8") == viewer_picture.words(page), "make picture"


def test_the_picture_is_one() -> None:
    """A PNG of the size that the script says, and small enough for a page."""
    picture = viewer_picture.PICTURE.read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", picture[16:24]) == tuple(viewer_picture.SIZE.values())
    assert len(picture) < 300_000
