"""Virtual environments under .venvs/ in which tests run with other requirements than those of .venv."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PROJECT = ".[server]"
"""The project with its local API, from which the tests read captured conversations back."""


class Environment(NamedTuple):
    """Virtual environment with the project, editable, and some requirements; made once."""

    name: str
    requirements: tuple[str, ...]

    @property
    def directory(self) -> Path:
        """Directory of the environment."""
        return ROOT / ".venvs" / self.name

    @property
    def python(self) -> Path:
        """Python of the environment."""
        return self.directory / "bin" / "python"

    def prepare(self) -> None:
        """Create it, and create it again when its requirements or the project's have changed."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        stamp, wanted = self.directory / ".made-from", repr((project["dependencies"], PROJECT, self.requirements))
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"Setting up {self.directory.relative_to(ROOT)} (once)", flush=True)
        # Debian packs ensurepip apart, so the pip of this interpreter installs.
        run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.directory))
        self.pip("install", "-qq", "--editable", PROJECT, *self.requirements)
        stamp.write_text(wanted)

    def pip(self, *arguments: str) -> None:
        """Run pip for the environment."""
        run(sys.executable, "-m", "pip", "--python", str(self.python), *arguments)


def run(*command: str) -> None:
    """Run a command in the project's directory; raise CalledProcessError if it fails."""
    subprocess.run(command, cwd=ROOT, check=True)
