"""Check that editors know the types of what the package exports: `python -m scripts.verify_types PYTHON`.

PYTHON is an interpreter with the package installed as users have it: pyright does not verify an editable install.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

LEAST = 0.98
"""The least share of exported symbols whose types are known."""


def main(python: str) -> str | None:
    """Print the share of known types; return what is wrong if it is too small."""
    command = ["pyright", "--verifytypes", "converra", "--ignoreexternal", "--outputjson"]
    command += ["--pythonpath", str(Path(python).absolute())]
    with TemporaryDirectory() as elsewhere:  # in the project, pyright would take the environment of its configuration
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=elsewhere
        )
    report = json.loads(done.stdout)["typeCompleteness"]
    print(f"{report['completenessScore']:.1%} of the exported symbols have a known type")
    if report["completenessScore"] >= LEAST:
        return None
    unknown = sorted(
        symbol["name"] for symbol in report["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]
    )
    return f"at least {LEAST:.0%} are expected; unknown or partly known:\n" + "\n".join(unknown)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
