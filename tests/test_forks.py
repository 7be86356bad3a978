"""A child process begins with nothing of what its parent shared: no lock that is held, no lease, no turn."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import jwtguard
from jwtguard import forks

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can't fork")

PATHS = os.pathsep.join([str(Path(jwtguard.__file__).parent.parent), str(Path(__file__).parent)])


def in_a_process(program: str) -> str:
    """What a program prints; it must end well, and in time."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_a_child_begins_with_an_empty_registry_and_locks_that_work() -> None:
    program = """
        import os, threading
        from rig import ALICE, Rig
        from jwtguard.flow import run

        reports = []
        def watch(ended):
            reports.append(os.getpid())
            return lambda: None

        rig = Rig(watch=watch)
        pair = rig.logged_in()
        assert rig.recall(pair)
        held, turn = rig.registry, rig.committer._turns.join(ALICE)
        flight = held.lease(b"someone")
        next(flight)
        for lock in (held._mutex, held._watching, rig.committer._turns._mutex):
            lock.__enter__()
        if (child := os.fork()) == 0:
            assert rig.recall(pair) is None
            assert (len(held.table), len(held._leases), len(held._fills), held.number) == (0, 0, 0, 0)
            assert rig.is_at_rest()
            assert rig.authenticate(pair).subject == "alice"
            assert rig.recall(pair)
            assert reports == [os.getppid(), os.getpid()]
            flight.close()
            rig.committer._turns.leave(ALICE, turn)
            assert rig.revoke(pair)
            assert rig.recall(pair) is None
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        for lock in (held._mutex, held._watching, rig.committer._turns._mutex):
            lock.__exit__(None, None, None)
        assert rig.recall(pair), "the parent goes on with what it had"
        print("well")
    """
    assert in_a_process(program) == "well\n"


def test_a_grandchild_begins_anew_as_well() -> None:
    program = """
        import os
        from rig import Rig

        rig = Rig()
        pair = rig.logged_in()
        if (child := os.fork()) == 0:
            rig.authenticate(pair)
            if (grandchild := os.fork()) == 0:
                os._exit(7 if rig.recall(pair) is None else 1)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert in_a_process(program) == "7\n"


class Thing:
    renewed = 0

    def _renew(self) -> None:
        self.renewed += 1


def test_only_things_that_live_are_renewed_and_each_once() -> None:
    thing, gone = Thing(), Thing()
    for each in (thing, thing, gone):
        forks.renew_after_fork(each)
    count = len(forks._renewables)
    del each, gone
    assert len(forks._renewables) < count
    assert thing in forks._renewables
    forks._renew_all()
    assert thing.renewed == 1
