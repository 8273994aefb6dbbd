"""Write down the public API, one line a name: `python -m scripts.public_api` rewrites tests/public_api.txt.

The source is read, not imported. A test fails where the file and the source differ, so that no public name or signature
changes unseen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
SNAPSHOT = ROOT / "tests" / "public_api.txt"
MODULES = (
    "converra",
    "converra.types",
    "converra.transcript",
    "converra.redaction",
    "converra.langchain",
    "converra.otel",
    "converra.asgi",
    "converra.testing",
)
ENDPOINTS = ("Conversations", "AsyncConversations")
"""The classes behind `client.conversations`, which are not imported by name."""


def snapshot() -> str:
    """Return every public name of `MODULES`, with its signature or annotation."""
    package = cast("griffe.Module", griffe.load("converra", search_paths=[ROOT / "src"], resolve_aliases=True))
    home = _member(package, "converra.api.conversations")
    lines = [line for name in MODULES for line in _module(_member(package, name))]
    lines += [line for name in ENDPOINTS for line in _lines(f"{home.path}.{name}", home[name])]
    return "".join(f"{line}\n" for line in lines)


def _member(package: griffe.Module, name: str) -> griffe.Module:
    found = package if name == package.name else package[name.removeprefix(f"{package.name}.")]
    return cast("griffe.Module", found)


def _module(module: griffe.Module) -> Iterator[str]:
    """Yield the lines of a module: of what `__all__` lists, else of what is defined there."""
    listed = module.exports or [name for name, thing in module.members.items() if not thing.is_alias]
    for name in sorted(map(str, listed)):
        if name == "__version__" or not name.startswith("_"):
            yield from _lines(f"{module.path}.{name}", module[name])


def _lines(path: str, thing: griffe.Object | griffe.Alias) -> Iterator[str]:
    target = thing.final_target if isinstance(thing, griffe.Alias) else thing
    if isinstance(target, griffe.Function):
        for function in target.overloads or [target]:
            yield f"{path}{_signature(function)}"
    elif isinstance(target, griffe.Class):
        yield f"class {path}({', '.join(map(str, target.bases))})"
        yield from _class(path, target)
    elif isinstance(target, griffe.Attribute):
        yield f"{path}: {target.annotation or 'value'}"


def _class(path: str, cls: griffe.Class) -> Iterator[str]:
    """Yield the public members: its own, and those of bases that are not public themselves."""
    for name, member in sorted(cls.all_members.items()):
        inherited = member.path.rpartition(".")[0] != cls.path or member.is_alias
        if inherited and _has_a_place_of_its_own(member):
            continue
        if name == "__init__" or not name.startswith(("_", "on_")):
            yield from _lines(f"  {path.rpartition('.')[2]}.{name}", member)


def _has_a_place_of_its_own(member: griffe.Object | griffe.Alias) -> bool:
    """Report whether an inherited member is listed with its own class: the errors, of which each has the same."""
    target = member.final_target if isinstance(member, griffe.Alias) else member
    return target.path.startswith("converra.errors.")


def _signature(function: griffe.Function) -> str:
    parameters: list[str] = []
    kinds = [parameter.kind for parameter in function.parameters]
    for index, parameter in enumerate(function.parameters):
        first_keyword = kinds.index(griffe.ParameterKind.keyword_only) if _has_keywords(kinds) else -1
        if index == first_keyword and griffe.ParameterKind.var_positional not in kinds:
            parameters.append("*")
        parameters.append(_parameter(parameter))
        if parameter.kind is griffe.ParameterKind.positional_only and kinds[index + 1 : index + 2] != [parameter.kind]:
            parameters.append("/")
    return f"({', '.join(parameters)}) -> {function.returns or 'None'}"


def _parameter(parameter: griffe.Parameter) -> str:
    stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
    text = f"{stars.get(parameter.kind, '') if parameter.kind else ''}{parameter.name}"
    if parameter.annotation is not None:
        text += f": {parameter.annotation}"
    return text if parameter.default is None or text.startswith("*") else f"{text} = {parameter.default}"


def _has_keywords(kinds: list[griffe.ParameterKind | None]) -> bool:
    return griffe.ParameterKind.keyword_only in kinds


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot())
