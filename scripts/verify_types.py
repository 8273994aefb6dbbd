"""Check that editors know the types of what the package exports: `python -m scripts.verify_types VENV`.

VENV is a virtual environment with the package installed as users have it: pyright does not verify an editable install.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

LEAST = 0.98
"""The least share of exported symbols whose types are known."""


def main(venv: Path) -> str | None:
    """Print the share of known types; return what is wrong if it is too small."""
    environment = os.environ | {"VIRTUAL_ENV": str(venv), "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "pyright", "--verifytypes", "converra", "--ignoreexternal", "--outputjson"]
    with TemporaryDirectory() as elsewhere:  # in the project, pyright would take the environment of its configuration
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=elsewhere, env=environment)
    report = json.loads(done.stdout)["typeCompleteness"]
    print(f"{report['completenessScore']:.1%} of the exported symbols have a known type")
    if report["completenessScore"] >= LEAST:
        return None
    unknown = sorted(
        symbol["name"] for symbol in report["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]
    )
    return "\n".join((f"at least {LEAST:.0%} are expected; unknown or known in part:", *unknown))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
