"""Runs the tests in forks of the process that has collected them: collecting and importing is paid for once.

`pytest --forks 4` collects as always and then shares the files out, long ones in parts. A fork that is free takes the
next one, those that take long first. Reports travel back through a pipe, so that everything that reads reports works as
without forks.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from multiprocessing.connection import Connection, Pipe, wait
from typing import TYPE_CHECKING, Any

import pytest

from tests import warm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Prepare = Callable[[Path], None]
    """Makes a fork at home in a directory of its own."""

POLL_SECONDS = 1.0
MOST = 25
"""Tests of one file that one fork takes at a time: a file of many waits must not hold up the end."""
LONG_FIRST = ("browser", "process", "fleet", "tests", "cli", "api", "integrations")
"""Directories whose files start first, in this order: one that takes long must not be the last."""


def run(session: pytest.Session, count: int, prepare: Prepare) -> bool:
    """Run the session's tests in so many forks. As the hook `pytest_runtestloop`, return True."""
    pool = _Pool(session, count, prepare)
    try:
        pool.run()
    finally:
        pool.stop()
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
    return True


def _files(items: list[pytest.Item]) -> list[list[int]]:
    """Return the numbers of the items by file, or part of a file, those of long directories and of many tests first."""
    whole = [list(group) for _, group in itertools.groupby(range(len(items)), lambda n: items[n].path)]
    numbers = [file[at : at + MOST] for file in whole for at in range(0, len(file), MOST)]

    def rank(file: list[int]) -> tuple[int, int]:
        folder = items[file[0]].path.parent.name
        return LONG_FIRST.index(folder) if folder in LONG_FIRST else len(LONG_FIRST), -len(file)

    return sorted(numbers, key=rank)


class _Fork:
    """A worker process as its parent sees it."""

    def __init__(self, pid: int, connection: Connection) -> None:
        self.pid = pid
        self.connection = connection
        self.waiting: list[int] = []
        """The items of its file that have not begun."""
        self.running: int | None = None


class _Pool:
    def __init__(self, session: pytest.Session, count: int, prepare: Prepare) -> None:
        self._session = session
        self._hook = session.config.hook
        self._prepare = prepare
        self._files = _files(session.items)
        self._count = min(count, len(self._files))
        self._numbers = itertools.count()
        self._forks: dict[Connection, _Fork] = {}
        terminal: Any = session.config.pluginmanager.getplugin("terminalreporter")
        terminal.showfspath = False  # tests of several files end in turn

    def run(self) -> None:
        """Return when all tests have run, or enough have failed."""
        while len(self._forks) < self._count:
            self._add()
        while self._forks:
            ready = wait(list(self._forks), POLL_SECONDS)
            for connection in ready:
                assert isinstance(connection, Connection)
                self._hear(self._forks[connection])
            if not ready:  # a process that a test has left behind may keep the pipe of a dead fork open
                for fork in list(self._forks.values()):
                    self._bury(fork, os.WNOHANG)

    def stop(self) -> None:
        """End the forks that are still there, after an interrupt."""
        for fork in self._forks.values():
            os.kill(fork.pid, signal.SIGKILL)
            os.waitpid(fork.pid, 0)

    def _add(self) -> None:
        ours, theirs = Pipe()
        sys.stdout.flush()
        number = next(self._numbers)
        pid = os.fork()
        if pid == 0:
            for connection in [ours, *self._forks]:
                connection.close()
            _work(self._session, theirs, number, self._prepare)
        theirs.close()
        fork = self._forks[ours] = _Fork(pid, ours)
        self._share(fork)

    def _share(self, fork: _Fork) -> None:
        """Give a fork that is free the next file, or word that there is none."""
        over = self._session.shouldfail or self._session.shouldstop
        fork.waiting = [] if over or not self._files else self._files.pop(0)
        fork.connection.send(fork.waiting)

    def _hear(self, fork: _Fork) -> None:
        try:
            word, value = fork.connection.recv()
        except (EOFError, ConnectionResetError):
            self._bury(fork, 0)
            return
        if word == "free":
            self._share(fork)
        elif word == "start":
            fork.waiting.remove(value)
            fork.running = value
            item = self._session.items[value]
            self._hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        elif word == "report":
            self._hook.pytest_runtest_logreport(
                report=self._hook.pytest_report_from_serializable(config=self._session.config, data=value)
            )
        elif word == "finish":
            fork.running = None
            item = self._session.items[value]
            self._hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _bury(self, fork: _Fork, options: int) -> None:
        """Take note that a fork has ended. Before its time, the test that it ran has failed, and another takes over."""
        pid, status = os.waitpid(fork.pid, options)
        if pid == 0:
            return
        del self._forks[fork.connection]
        fork.connection.close()
        if fork.running is not None:
            item = self._session.items[fork.running]
            text = f"the process that ran this test ended with {os.waitstatus_to_exitcode(status)}"
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", text, "call")
            self._hook.pytest_runtest_logreport(report=report)
            self._hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if fork.waiting:
            self._files.insert(0, fork.waiting)
            self._add()


def _work(session: pytest.Session, connection: Connection, number: int, prepare: Prepare) -> None:
    """Be a fork: run files until there are none, and exit."""
    status = 1
    try:
        _settle(session.config, number, prepare)
        session.config.pluginmanager.register(_Reporter(session.config, connection))
        while numbers := connection.recv():
            for index, following in itertools.zip_longest(numbers, numbers[1:]):
                connection.send(("start", index))
                item, after = session.items[index], None if following is None else session.items[following]
                session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
                connection.send(("finish", index))
            connection.send(("free", None))
        status = 0
    finally:
        warm.close()
        _save_coverage()
        os._exit(status)


def _settle(config: pytest.Config, number: int, prepare: Prepare) -> None:
    """Share no file with the other forks: neither captured output nor temporary directories nor the terminal."""
    capturing: Any = config.pluginmanager.getplugin("capturemanager")
    capturing.stop_global_capturing()
    capturing.start_global_capturing()
    capturing.suspend_global_capture()
    terminal: Any = config.pluginmanager.getplugin("terminalreporter")
    terminal._tw._file = open(os.devnull, "w")  # noqa: SIM115, PTH123 - open as long as the process
    folders: Any = config._tmp_path_factory  # type: ignore[attr-defined]
    folders._basetemp = folders.getbasetemp() / f"fork-{number}"
    folders._basetemp.mkdir()
    home = folders._basetemp / "home"
    home.mkdir()
    prepare(home)


def _save_coverage() -> None:
    """Save what this fork has measured, if it is measured: it ends without the usual exit."""
    coverage = sys.modules.get("coverage")  # not installed in every environment that runs tests
    measured = None if coverage is None else coverage.Coverage.current()
    if measured is not None:
        measured.stop()
        measured.save()


class _Reporter:
    """Sends the reports of a fork to its parent."""

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config = config
        self._connection = connection

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._connection.send(("report", data))
