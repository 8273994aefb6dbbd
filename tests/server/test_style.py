"""The colours of the viewer."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import pairwise

import pytest

STYLE = files("converra.server").joinpath("static", "viewer.css").read_text("utf-8")
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): #(\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
)
WORDS = [
    *((ink, paper) for ink in ("text", "soft", "accent") for paper in ("page", "surface", "raised")),
    *(("text", paper) for paper in ("user", "mark", "line")),
    *((ink, paper) for ink in ("good", "warn", "bad", "info") for paper in (f"{ink}-bg", "surface")),
]
SIGNS = [("control", "page"), ("control", "surface"), ("accent", "raised"), *((ink, "page") for ink in ("good", "bad"))]


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.2 defines it: from 1 to 21."""
    darker, lighter = sorted(map(luminance, (one, other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at:to], 16) / 255 for at, to in pairwise((0, 2, 4, 6))]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [LIGHT, LIGHT | DARK], ids=["light", "dark"])
def test_everything_can_be_read(scheme: dict[str, str]) -> None:
    """Words have the contrast that WCAG asks for at level AA, edges of controls and marks of state too."""
    least = dict.fromkeys(WORDS, 4.5) | {pair: 3.0 for pair in SIGNS if pair not in WORDS}
    measured = {pair: round(contrast(scheme[pair[0]], scheme[pair[1]]), 2) for pair in least}
    assert {pair: ratio for pair, ratio in measured.items() if ratio < least[pair]} == {}
