"""Patch points as rows, one installer, one uninstaller: the only door to wrapt.

A wrapper calls the original with the same arguments, on a line of its own, and returns the same result. Everything
else stands around that line, under the guard, and its outcome is ignored. The one exception is a bare generator, which
cannot be watched in place: the wrapper returns a generator around it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import inspect
import logging
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import wrapt

from converra.integrations import Patched, uncaptured
from converra.integrations.importing import WATCHER
from converra.process.guard import guard, report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from converra.integrations import Capture, Integration

    Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]

logger: logging.Logger = logging.getLogger("converra")

READING, ENDING = "reading a request", "reading an answer"
"""Steps that a failure inside `converra` interrupts, for the log."""

MAX_CHAIN = 64
"""Most wrappers around one function that are followed; a longer chain is taken for a cycle."""


class PatchPoint(NamedTuple):
    """One function to wrap: `owner` is a path inside the module, such as `OpenAI`, or empty for the module itself.

    A coroutine function is awaited.
    """

    owner: str
    attribute: str
    coroutine: bool = False
    bound: bool = False
    """Pass the instance to the observer as well, as its first argument."""


class Observed(Protocol):
    """One call of a wrapped function. Both methods may raise: the wrapper guards them."""

    def returned(self, result: Any) -> Any:
        """Read `result`, which belongs to the app: never change it.

        Returns:
            None; for a bare generator, the generator around it that the app gets.

        """

    def raised(self, error: BaseException) -> None:
        """Note that the call has raised `error`; the app gets the same exception."""


class _Installed(NamedTuple):
    """One installed wrapper. Its owner is not kept alive, since a library may be imported again."""

    owner: weakref.ref[Any]
    attribute: str
    wrapper: Wrapper
    inherited: bool
    """The owner had no attribute of its own before."""


class Patches:
    """The patch points of one integration and, while they are installed, the capture that they serve.

    A bound method that the app has kept outlives its removal (openai's raw responses keep one), so wrappers ask at
    each call whether there is a capture, and those of an earlier installation serve a later one.
    """

    def __init__(self, points: tuple[PatchPoint, ...], observe: Callable[..., Observed | None]) -> None:
        self._points = points
        self._observe = observe
        self._capture: Capture | None = None
        self._installed: dict[PatchPoint, list[_Installed]] = {point: [] for point in points}
        """For each point the owners that it was patched in: more than one where the library was imported again."""
        self._wrappers: weakref.WeakKeyDictionary[Wrapper, bool] = weakref.WeakKeyDictionary()
        """All wrappers ever made, as long as something holds them, and whether each was put over an inherited one."""

    def install(self, module: ModuleType, capture: Capture) -> list[Patched]:
        """Wrap each point once. A point that this version of the library lacks is skipped, alone."""
        self._capture = capture
        with _lock:
            return [self._patch(module, point) for point in self._points]

    def uninstall(self) -> None:
        """Put the originals back; a wrapper that another tool has wrapped stays, inactive."""
        self._capture = None
        with _lock:
            for point, everywhere in self._installed.items():
                self._installed[point] = [installed for installed in everywhere if not _remove(installed)]

    def _patch(self, module: ModuleType, point: PatchPoint) -> Patched:
        target = ".".join(filter(None, (module.__name__, point.owner, point.attribute)))
        try:
            owner = _resolve(module, point.owner)
            original = inspect.getattr_static(owner, point.attribute)
        except AttributeError as error:
            logger.debug("converra does not patch %s: %s", target, error)
            return Patched(target, "skipped", f"{getattr(module, '__file__', None) or 'the module'} has none")
        installed = self._installed[point] = [patch for patch in self._installed[point] if patch.owner() is not None]
        if not any(patch.owner() is owner and _is_in_chain(patch) for patch in installed):
            installed[:] = [patch for patch in installed if patch.owner() is not owner]
            installed.append(self._found(owner, point) or self._wrap(owner, point, original))
        return Patched(target, "patched")

    def _found(self, owner: Any, point: PatchPoint) -> _Installed | None:
        """Return a wrapper of an earlier installation that another tool has put back, having saved it.

        It serves this installation: one more would record every call twice.
        """
        wrappers = [getattr(each, "_self_wrapper", None) for each in _chain(owner, point.attribute) if _is_wrapt(each)]
        found = [
            _Installed(weakref.ref(owner), point.attribute, wrapper, self._wrappers[wrapper])
            for wrapper in wrappers
            if wrapper is not None and wrapper in self._wrappers
        ]
        for below in reversed(found[1:]):
            _remove(below)
        return found[0] if found else None

    def _wrap(self, owner: Any, point: PatchPoint, original: Any) -> _Installed:
        wrapper = (
            self._async_wrapper(original, bound=point.bound) if point.coroutine else self._wrapper(bound=point.bound)
        )
        inherited = self._wrappers[wrapper] = point.attribute not in vars(owner)
        wrapt.wrap_function_wrapper(owner, point.attribute, wrapper)
        return _Installed(weakref.ref(owner), point.attribute, wrapper, inherited)

    def _wrapper(self, *, bound: bool) -> Wrapper:
        observe = self._observe

        def call(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            capture, observed = self._capture, None
            try:
                if capture is not None and capture.active:
                    observed = observe(capture, (instance, *args) if bound else args, kwargs)
            except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                report(READING, error)
            if observed is None:
                return wrapped(*args, **kwargs)
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                _raised(observed, error)
                raise
            try:
                around = observed.returned(result)
            except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                report(ENDING, error)
                return result
            return result if around is None else around

        return call

    def _async_wrapper(self, original: Any, *, bound: bool) -> Wrapper:
        observe = self._observe

        async def call(
            wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            capture, observed = self._capture, None
            try:
                if capture is not None and capture.active:
                    observed = observe(capture, (instance, *args) if bound else args, kwargs)
            except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                report(READING, error)
            if observed is None:
                return await wrapped(*args, **kwargs)
            try:
                result = await wrapped(*args, **kwargs)
            except BaseException as error:
                _raised(observed, error)
                raise
            try:
                around = observed.returned(result)
            except Exception as error:  # noqa: BLE001 - a guard without a frame of its own
                report(ENDING, error)
                return result
            return result if around is None else around

        # The name in Python's warning about a coroutine that was never awaited.
        call.__qualname__ = getattr(original, "__qualname__", call.__qualname__)
        return call


def watch_calls(owner: Any, name: str, seen: Callable[[Any], None]) -> Callable[[], None]:
    """Have `seen` look at the first argument of each call of a method of one object, before the call.

    A proxy of the method stands in the object, which passes for the method in whatever an app or a test asks of it.

    Args:
        owner: The object.
        name: Its method, which may return an awaitable.
        seen: Gets the argument; it may raise.

    Returns:
        A function that puts the method back, unless something else has taken its place.

    """
    method = getattr(owner, name)
    shadowed = name in getattr(owner, "__dict__", ())

    def call(wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with guard(READING):
            seen(args[0] if args else next(iter(kwargs.values())))
        return wrapped(*args, **kwargs)

    proxy = wrapt.FunctionWrapper(method, call)
    setattr(owner, name, proxy)

    def undo() -> None:
        if getattr(owner, "__dict__", {}).get(name) is not proxy:
            return
        if shadowed:
            setattr(owner, name, method)
        else:
            delattr(owner, name)

    return undo


def _raised(observed: Observed, error: BaseException) -> None:
    with guard("recording a failed call"):
        observed.raised(error)


def _resolve(module: ModuleType, path: str) -> Any:
    owner: Any = module
    for name in filter(None, path.split(".")):
        owner = getattr(owner, name)
    return owner


def _chain(owner: Any, attribute: str) -> Iterator[Any]:
    """Yield the wrappers around a function, outermost first, and the function itself."""
    wrapper: Any = inspect.getattr_static(owner, attribute, None)
    for _ in range(MAX_CHAIN):
        if wrapper is None:
            return
        yield wrapper
        wrapper = getattr(wrapper, "__wrapped__", None)


def _is_ours(wrapped: Any, wrapper: Wrapper) -> bool:
    """Return True for our wrapper, also as wrapt binds it to the class: other tools save and restore it so."""
    return _is_wrapt(wrapped) and getattr(wrapped, "_self_wrapper", None) is wrapper


def _is_wrapt(wrapped: Any) -> bool:
    return isinstance(wrapped, _WRAPPERS)


_WRAPPERS = (wrapt.FunctionWrapper, wrapt.BoundFunctionWrapper)


def _is_in_chain(installed: _Installed) -> bool:
    """Return True while our wrapper is still called; another tool may have restored its saved original."""
    chain = _chain(installed.owner(), installed.attribute)
    return any(_is_ours(wrapped, installed.wrapper) for wrapped in chain)


def _remove(installed: _Installed) -> bool:
    """Remove our wrapper; return False if another one is around it, so that it stays, inactive."""
    owner_of, attribute, wrapper, inherited = installed
    owner, above = owner_of(), None
    for wrapped in _chain(owner, attribute):
        if _is_ours(wrapped, wrapper):
            break
        above = wrapped
    else:
        return True
    original = wrapped.__wrapped__
    if above is None and inherited:
        delattr(owner, attribute)
    elif above is None:
        setattr(owner, attribute, original)
    elif _is_wrapt(above):
        above.__wrapped__ = original
    else:  # the `__wrapped__` of a plain function is only a note
        logger.debug("converra leaves its wrapper of %s, inactive: another one is around it", attribute)
        return False
    return True


_lock = threading.RLock()
_on: dict[str, tuple[Integration, Capture]] = {}
"""Integrations that are on, by name; each is installed whenever its module is imported."""


def switch_on(integration: Integration, capture: Capture) -> list[Patched]:
    """Install an integration now, and whenever its module is imported. May be called again at any time."""
    with _lock:
        _on[integration.name] = (integration, capture)
        for name in (integration.module, *integration.parts):
            WATCHER.watch(name, _imported)
        present = [name for name in (integration.module, *integration.parts) if name in sys.modules]
        module = sys.modules[present[0]] if present else None  # None also where an app forbids an import
        if module is not None:
            return _install(integration, module, capture)
        absent = Patched(integration.module, "waiting", _absence(integration.module))
        return [absent] if integration.captures else []


def switch_off(integration: Integration) -> None:
    """Undo `switch_on`, whether its module has been imported or not."""
    with _lock:
        _on.pop(integration.name, None)
        watched = {name for known, _ in _on.values() for name in (known.module, *known.parts)}
        for name in (integration.module, *integration.parts):
            if name not in watched:
                WATCHER.unwatch(name)
        with guard(f"uninstalling the {integration.name} integration"):
            integration.uninstall()


def when_imported(module: str, call: Callable[[], None]) -> None:
    """Call `call` whenever a module is imported, and at once if it is imported already."""

    def imported(_module: ModuleType) -> None:
        with guard(f"preparing for {module}"):
            call()

    with _lock:
        WATCHER.watch(module, imported)
    if module in sys.modules:
        imported(sys.modules[module])


def forget_import(module: str) -> None:
    """Undo `when_imported`."""
    with _lock:
        WATCHER.unwatch(module)


def _install(integration: Integration, module: ModuleType, capture: Capture) -> list[Patched]:
    with guard(f"installing the {integration.name} integration"):
        rows = integration.install(module, capture)
        if _is_unknown(integration, module, rows):
            uncaptured.NOTICES.note(*uncaptured.unsupported(integration))
        return rows
    return [Patched(integration.module, "skipped", "its integration failed, see the log")]


def _is_unknown(integration: Integration, module: ModuleType, rows: list[Patched]) -> bool:
    """Return True if a version of a library has no patch point; one of its parts alone may have none."""
    is_main = module.__name__ == integration.module or integration.module not in sys.modules
    return integration.captures and is_main and bool(rows) and all(row.state == "skipped" for row in rows)


def _absence(module: str) -> str:
    package, _, rest = module.partition(".")  # to look for a submodule would import its package
    try:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is None and rest:  # of a namespace, many libraries may be installed
            name = f"{package}.{rest.partition('.')[0]}"
            spec = importlib.machinery.PathFinder.find_spec(name, spec.submodule_search_locations)
    except (ImportError, ValueError):  # a parent package that cannot be imported, or a module without a spec
        spec = None
    return "not installed" if spec is None else "not imported yet"


def _imported(module: ModuleType) -> None:
    """Install the integrations that wait for this module, or were installed in an earlier one of its name."""
    with _lock:
        for integration, capture in list(_on.values()):
            if module.__name__ in (integration.module, *integration.parts):
                _install(integration, module, capture)
