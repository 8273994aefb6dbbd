"""Effort: how many examples a property gets, or runs a test that kills at random.

=======  ==========================================  ==================
profile  used                                        share of examples
=======  ==========================================  ==================
ci       where `CI` is "true"                        all
dev      elsewhere                                   a quarter
quick    `make test-quick`                           a tenth
=======  ==========================================  ==================

`pytest --hypothesis-profile=ci` chooses. Every run draws other examples, and failing ones are kept and tried again.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

ALL = 100


def examples(count: int) -> int:
    """Return the profile's share of `count` examples, five at least."""
    return max(5, count * settings().max_examples // ALL)


def register_profiles() -> None:
    """Make the profiles known, and load the one for this machine. None minds how long an example takes to draw."""
    calm = [HealthCheck.too_slow]
    for name, share in (("ci", 100), ("dev", 25), ("quick", 10)):
        settings.register_profile(name, deadline=None, suppress_health_check=calm, max_examples=share)
    settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")
