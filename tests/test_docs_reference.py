"""The reference pages are complete and say what the source says."""

from __future__ import annotations

import inspect
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import click
import msgspec

import converra
import converra.testing
from converra import errors, transcript, types
from converra.cli.group import commands
from converra.config import SETTINGS, Setting
from converra.langchain import ConverraCallbackHandler
from converra.otel import ConverraSpanExporter, ConverraSpanProcessor
from tests.markdown import page

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS_PAGE = "docs/reference/settings.md"
API_PAGE = "docs/reference/api.md"
STATS_PAGE = "docs/reference/stats.md"
CLI_PAGE = "docs/reference/command-line.md"
ERRORS_PAGE = "docs/reference/errors.md"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_every_setting_is_documented() -> None:
    """The table of settings has the names, variables, defaults and meanings that the code has, in its order."""
    expected = [[f"`{row.name}`", _shown(row.environment), _shown(row.default), row.meaning] for row in SETTINGS]
    assert [[*cells[:3], _without_links(cells[3])] for cells in page(SETTINGS_PAGE).rows()] == expected


def test_instrument_describes_every_setting() -> None:
    """The docstring of `instrument()` has the meaning, the default and the variable of each setting that it takes."""
    described = " ".join(str(converra.instrument.__doc__).split())
    parameters = inspect.signature(converra.instrument).parameters
    assert sorted(parameters) == sorted(row.name for row in SETTINGS)
    assert [row.name for row in SETTINGS if _described(row) not in described] == []


def _described(row: Setting) -> str:
    default = "" if row.default is None else f" Default: {_shown(row.default)}."
    environment = f" Environment: `{row.environment}`." if row.environment else ""
    return f" {row.name}: {row.meaning}{default}{environment} "


def _without_links(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text).replace("\\|", "|")


def _public_callables() -> dict[str, Any]:
    return {name: getattr(converra, name) for name in converra.__all__ if not name.startswith("__")}


def test_every_public_name_is_documented() -> None:
    """Each name of the package has a heading of its own on the page of the API."""
    documented = {re.split(r"\W", heading.removeprefix("`converra."))[0] for heading in page(API_PAGE).headings}
    assert set(_public_callables()) - documented == set(_error_classes())


def test_every_type_is_documented() -> None:
    """The table of types has each name of `converra.types`, once."""
    text = page(API_PAGE).path.read_text()
    rows = re.search(r"^## Types$(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert rows is not None
    names = [
        name for row in re.findall(r"^\| (`.*?) \|", rows[1], re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(names) == sorted(types.__all__)


def test_every_name_for_tests_is_documented() -> None:
    """The page on testing names the fixtures and the classes of the plugin."""
    said = "\n".join(page("docs/how-to/test-conversations.md").inline_code)
    assert [name for name in converra.testing.__all__ if not re.search(rf"\b{name}\b", said)] == []


def _signature(function: Any) -> str:
    """Return names, kinds and defaults, as documented: the types are in the prose."""
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(bare))


def test_documented_signatures_are_the_real_ones() -> None:
    """A function that the page shows with its parameters has these, with these defaults."""
    matches = (re.fullmatch(r"`(converra[\w.]*)\.(\w+)(\(.*\))`", heading) for heading in page(API_PAGE).headings)
    shown = {f"{match[1]}:{match[2]}": match[3] for match in matches if match}
    assert shown == {name: _signature(pkgutil.resolve_name(name)) for name in shown}
    helpers = {pkgutil.resolve_name(name) for name in shown if ".transcript:" in name}
    assert helpers == {transcript.build, transcript.build_text, transcript.build_structured, transcript.parse}


def _commands(group: click.Group, names: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, in the order of the help."""
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if isinstance(command, click.Group) and command.invoke_without_command:
                yield " ".join((*names, name)), command
            if isinstance(command, click.Group):
                yield from _commands(command, (*names, name))
            else:
                yield " ".join((*names, name)), command


def test_every_command_is_documented() -> None:
    """Each command has its part of the page, with its options in the order of its help."""
    expected: list[str] = []
    for name, command in _commands(commands, ("converra",)):
        options = [each for each in command.params if isinstance(each, click.Option) and not each.hidden]
        expected += [f"`{name}`", *(f"`{_longest(option)}`" for option in options)]
    shown = re.findall(r"^(?:## |\| )(`(?:converra |--)[^`]+`)", page(CLI_PAGE).path.read_text(), re.MULTILINE)
    assert shown == expected


def _longest(option: click.Option) -> str:
    """Return the long form of an option."""
    return max(option.opts, key=len)


def _error_classes() -> dict[str, type[errors.ConverraError]]:
    return {
        name: thing
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.ConverraError)
    }


def test_every_error_is_documented() -> None:
    """The table of errors has each class of the tree, with the class that it is caught by."""
    expected = {f"`{name}`": f"`{cls.__mro__[1].__name__}`" for name, cls in _error_classes().items()}
    assert {cells[0]: cells[1] for cells in page(ERRORS_PAGE).rows()} == expected


def test_every_count_is_documented() -> None:
    """The table of stats has each field of `converra.stats()`, in its order."""
    expected = [f"`{field.name}`" for field in msgspec.structs.fields(type(converra.stats()))]
    assert [cells[0] for cells in page(STATS_PAGE).rows()] == expected


def test_the_signatures_of_classes_with_a_module_of_their_own_are_the_real_ones() -> None:
    """The handler of LangChain's runs, and the readers of OpenTelemetry's spans, are documented as they are."""
    for thing in (ConverraCallbackHandler, ConverraSpanProcessor, ConverraSpanExporter):
        assert f"`{thing.__module__}.{thing.__name__}{_signature(thing)}`" in page(API_PAGE).headings
