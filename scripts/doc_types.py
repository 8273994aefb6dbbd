"""Check the Python of README, docs and examples with mypy and pyright: `python -m scripts.doc_types`.

The blocks of a page are one program, as `tests/test_docs.py` runs them, and keep their line numbers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.markdown import PAGES, ROOT

UNTYPED = "--disable-error-code=import-untyped"
"""A page may use a library without types, such as vcrpy."""

SKIPPED = "[mypy]\n[mypy-litellm.*]\nfollow_imports = skip\n"
"""Reading all modules of litellm takes minutes and a gigabyte."""

MYPY = ("mypy", "--config-file=mypy.ini", "--cache-dir", str(ROOT / ".cache" / "mypy-docs"), "--strict", UNTYPED, ".")
PYRIGHT = ("pyright", "--pythonpath", sys.executable, "--warnings", ".")


def main() -> int:
    """Run both checkers over all programs at once; return 1 if one complains."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        sources = _write(folder)
        print(f"checking {len(sources)} pages and examples with mypy --strict and pyright")
        failed = [command[0] for command in (MYPY, PYRIGHT) if _complains(command, folder, sources)]
    return 1 if failed else 0


def _write(folder: Path) -> dict[str, str]:
    """Write each program into a file; return the files' names, with what they were made from."""
    shutil.copy(ROOT / "tests" / "shop.py", folder)  # imported by pages about tests
    (folder / "mypy.ini").write_text(SKIPPED)
    sources: dict[str, str] = {}
    for page in PAGES:
        for language in ("python", "py"):
            if code := page.code(language):
                name = f"{page.name.removesuffix('.md').replace('/', '_').replace('-', '_')}_{language}.py"
                (folder / name).write_text(f"{code}\n")
                sources[name] = page.name
    for example in (ROOT / "examples").glob("*.py"):
        shutil.copy(example, folder)
        sources[example.name] = f"examples/{example.name}"
    return sources


def _complains(command: tuple[str, ...], folder: Path, sources: dict[str, str]) -> bool:
    """Run a checker and print what it prints, with the names of pages and examples; return True if it found errors."""
    run = [sys.executable, "-m", *command]
    done = subprocess.run(run, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    output = done.stdout.replace(f"{folder}/", "")
    for name, source in sources.items():
        output = output.replace(f"{name}:", f"{source}:")
    print(output, end="")
    return done.returncode != 0


if __name__ == "__main__":
    sys.exit(main())
