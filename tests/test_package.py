"""The package as it is installed and imported."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import pytest

import converra
from converra import types
from scripts.public_api import SNAPSHOT, snapshot

DEPENDENCIES = {"httpx", "wrapt", "msgspec", "opentelemetry", "openai", "langchain_core", "starlette", "click", "rich"}


def _loaded_by(program: str) -> set[str]:
    """Top-level packages that a program has loaded when it ends, in a fresh interpreter."""
    show = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(subprocess.check_output([sys.executable, "-c", f"{program}\n{show}"], text=True).split())


def test_importing_loads_no_dependency() -> None:
    """`import converra` is light: it loads none of its dependencies and no library that it could capture."""
    assert _loaded_by("import converra") & DEPENDENCIES == set()


def test_instrumenting_imports_no_library_of_the_app() -> None:
    """`instrument()` waits for what it captures, and for the network until there is something to send."""
    loaded = _loaded_by("import converra; converra.instrument(api_key='k')")
    assert loaded & {"openai", "langchain_core", "httpx", "starlette"} == set()


def test_an_integration_is_loaded_with_its_library() -> None:
    """`instrument()` costs an app nothing for libraries that it does not import."""
    program = """
import sys, converra
converra.instrument(api_key="k")
from converra.integrations.catalogue import ENTRIES
print(*(entry.name for entry in ENTRIES if entry.home in sys.modules))
import ollama
print(*(entry.name for entry in ENTRIES if entry.home in sys.modules))
"""
    before, after = subprocess.check_output([sys.executable, "-c", program], text=True).splitlines()
    assert before == ""
    assert "ollama" in after.split()
    assert not {"anthropic", "bedrock", "litellm", "mistralai"} & set(after.split())


def test_importing_starts_nothing() -> None:
    """Importing every public name starts no thread."""
    names = ", ".join(name for name in converra.__all__ if name != "__version__")
    program = f"import threading\nfrom converra import {names}\nprint(threading.active_count())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "1\n"


def test_every_public_name_is_there() -> None:
    """What the package lists it has, and a name that it has not is an ordinary AttributeError."""
    assert all(getattr(converra, name) is not None for name in converra.__all__)
    assert set(converra.__all__) <= set(dir(converra))
    with pytest.raises(AttributeError, match="module 'converra' has no attribute 'instrumemt'"):
        getattr(converra, "instrumemt")  # noqa: B009 - as an attribute it would be an error of the type checker


def test_no_two_public_classes_share_a_name() -> None:
    """A name means one class, whichever module it is imported from; none is both a class and a module."""
    classes = [getattr(module, name) for module in (converra, types) for name in module.__all__]
    classes = [thing for thing in classes if isinstance(thing, type)]
    assert len({thing.__name__ for thing in classes}) == len(set(classes))


def test_the_public_api_is_the_one_that_is_written_down() -> None:
    """No public name or signature changes unseen; `python -m scripts.public_api` writes it down anew."""
    assert snapshot() == SNAPSHOT.read_text()


def test_delivering_loads_no_pydantic() -> None:
    """Recording by hand and sending need none, so its version is the app's own business."""
    program = (
        "import converra, logging; logging.disable()\n"
        "converra.instrument(api_key='k', base_url='http://127.0.0.1:9')\n"
        "with converra.conversation('p') as c: c.add_message('user', 'Hello?')\n"
        "converra.shutdown(0.2)"
    )
    loaded = _loaded_by(program)
    assert "httpx" in loaded
    assert loaded & {"pydantic", "pydantic_core"} == set()


def test_no_version_is_pinned() -> None:
    """Every requirement has a lower bound, and none is exact: the package installs beside others."""
    required = [name.partition(";")[0] for name in metadata("converra").get_all("Requires-Dist") or []]
    assert [name for name in required if "==" in name or "~=" in name] == []
    assert [name for name in required if ">=" not in name and not name.startswith("converra[")] == []


def test_the_version_stands_in_one_place() -> None:
    """What is installed and what is imported name the same version."""
    assert converra.__version__ == version("converra")


def test_the_core_depends_on_four_packages() -> None:
    """Without extras nothing else is installed."""
    required = metadata("converra").get_all("Requires-Dist") or []
    core = sorted(re.split(r"[<>=]", name)[0] for name in required if "extra ==" not in name)
    assert core == ["httpx", "msgspec", "opentelemetry-api", "wrapt"]


def test_type_checkers_find_the_types() -> None:
    """The package is marked as typed."""
    assert (Path(converra.__path__[0]) / "py.typed").exists()
