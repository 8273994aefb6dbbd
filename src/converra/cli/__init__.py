"""The command line: one file per group of commands. Needs the extra `cli`; the commands that serve need `server`."""

from __future__ import annotations

import sys

_HINTS = {
    "cli": ("click", "rich"),
    "server": ("starlette", "uvicorn", "jinja2", "sse_starlette"),
    "openai": ("openai",),
    "redis": ("redis",),
}


def main() -> None:
    """Run `converra`; the entry point exists without the extras, so a missing one is reported here."""
    try:
        from converra.cli.group import commands  # noqa: PLC0415 - so that a missing extra ends in the hint below

        commands(prog_name="converra")
    except ModuleNotFoundError as missing:
        if missing.name == "click" and sys.argv[1:2] and sys.argv[1] in ("run", "doctor", "--version"):
            from converra.cli import bare  # noqa: PLC0415 - only without the extra

            sys.exit(bare.main(sys.argv[1:]))
        hint = _hint(missing.name or "")
        if hint is None:
            raise
        sys.exit(hint)


def _hint(module: str) -> str | None:
    """Name the extra to install for a missing module; None for a module of no extra, whose absence is a bug."""
    package = module.partition(".")[0]
    extra = next((name for name, packages in _HINTS.items() if package in packages), None)
    return (
        f'converra: {package} is not installed; this command needs: pip install "converra[{extra}]"' if extra else None
    )
