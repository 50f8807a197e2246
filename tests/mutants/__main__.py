"""Run the tests of each fast path against mutants of it, and print the mutants that survive.

    python -m tests.mutants [-j PROCESSES] [--tests TEST …] [TEXT …]

A mutant is killed when one of its tests fails, or does not end in time. Exit code 1: a mutant
survives that `targets.EQUIVALENT` does not explain, or an explanation fits no survivor. The tests
run in a temporary copy of the tree; the real files are never touched.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import msgspec
from msgspec import Struct

from .mutate import Mutant, mutants
from .targets import EQUIVALENT, TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = (
    *("-x", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # its plugins are loaded before the fork
)
LOG = "log.txt"
LOADED_ONCE = ("hypothesis", "jsonschema", "openai.types.responses", "pytest")
"""What the tests import, and takes its time: loaded before the forks."""

MAX_MEMORY_BYTES = 3 * 1024**3
"""Address space of one run: a mutant may loop and allocate."""

REASONS = {(one.name, one.now): one.reason for one in EQUIVALENT}

_forked = multiprocessing.get_context("fork")


class Survivor(Struct, frozen=True):
    """A mutant on which all tests passed."""

    target: Target
    mutant: Mutant
    source: str

    @property
    def explained(self) -> tuple[str, str]:
        """The key of its explanation: the qualified name, and the line as it reads now."""
        return self.mutant.name, self.mutant.now(self.source)

    def __str__(self) -> str:
        mutant, changed = self.mutant, self.mutant.applied(self.source)
        end = mutant.line + self.source.encode()[mutant.start : mutant.end].count(b"\n")
        was = self.source.splitlines()[mutant.line - 1 : end]
        now = changed.splitlines()[mutant.line - 1 : mutant.line + mutant.text.count("\n")]
        shown = [f"  - {line.strip()}" for line in was] + [f"  + {line.strip()}" for line in now]
        return "\n".join([f"{self.target.file}:{mutant.line}: {mutant.name}", *shown])


class _Quick:
    """A pytest plugin: drawn examples are the same each time, few, and kept nowhere."""

    @staticmethod
    def pytest_sessionstart() -> None:
        from hypothesis import settings

        base = settings.get_profile("here")
        settings.register_profile("mutants", base, database=None, derandomize=True)
        settings.load_profile("mutants")


def passes(tree: Path, tests: tuple[str, ...], timeout_s: float, *, writes: bool = False) -> bool:
    """Run tests in a copy of the tree, in a process of their own; False: one failed, or no end."""
    run = _forked.Process(target=_run, args=(tree, tests, writes))
    run.start()
    run.join(timeout_s)
    if run.is_alive():
        assert run.pid is not None
        os.killpg(run.pid, signal.SIGKILL)
        run.join()
    return run.exitcode == 0


def _run(tree: Path, tests: tuple[str, ...], writes: bool) -> None:
    import pytest

    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    out = os.open(tree / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(tree)
    for name in list(sys.modules):
        if name.partition(".")[0] in ("tests", "translator"):
            del sys.modules[name]
    sys.path[:] = [str(tree), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    sys.dont_write_bytecode = not writes  # of a mutant: the next one may have its size and time
    os._exit(pytest.main([*ARGUMENTS, *tests], plugins=[_Quick()]))


def copied(parent: Path) -> Path:
    """A copy of the tree, as far as the tests need it; fixtures are only read."""
    tree = parent / "tree0"
    ignored = shutil.ignore_patterns("__pycache__", "clients", ".hypothesis")
    for name in ("translator", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    shutil.copy2(ROOT / "pyproject.toml", tree)
    (tree / "fixtures").symlink_to(ROOT / "fixtures")
    return tree


def survives(tree: Path, target: Target, mutant: Mutant, source: str, timeout_s: float) -> bool:
    """Whether all tests of a target pass on a mutant, which is written into the copy meanwhile."""
    path = tree / target.file
    path.write_text(mutant.applied(source), "utf-8")
    try:
        return passes(tree, target.tests, timeout_s)
    finally:
        path.write_text(source, "utf-8")


def run(targets: list[Target], processes: int) -> list[Survivor]:
    """The survivors of all mutants of the targets."""
    for name in LOADED_ONCE:
        importlib.import_module(name)
    found: list[Survivor] = []
    sources = {target: (ROOT / target.file).read_text("utf-8") for target in targets}
    with tempfile.TemporaryDirectory(prefix="mutants") as parent:
        first, limits = copied(Path(parent)), dict[tuple[str, ...], float]()
        for tests in dict.fromkeys(target.tests for target in targets):
            begun = time.monotonic()
            if not passes(first, tests, 600, writes=True):
                shown = (first / LOG).read_text("utf-8", "replace")
                raise SystemExit(f"{shown}\nThese fail without a mutant: {' '.join(tests)}")
            limits[tests] = 20 + 5 * (time.monotonic() - begun)
        trees: SimpleQueue[Path] = SimpleQueue()
        trees.put(first)
        for number in range(1, processes):
            trees.put(shutil.copytree(first, Path(parent) / f"tree{number}", symlinks=True))

        def judged(job: tuple[Target, Mutant, str]) -> Survivor | None:
            target, mutant, source = job
            tree = trees.get()
            try:
                if survives(tree, target, mutant, source, limits[target.tests]):
                    survivor = Survivor(target, mutant, source)
                    if survivor.explained not in REASONS:
                        print(survivor, flush=True)
                    return survivor
            finally:
                trees.put(tree)
            return None

        with ThreadPoolExecutor(processes) as pool:
            for target, source in sources.items():
                jobs = [(target, mutant, source) for mutant in mutants(source, target.name)]
                alive = [one for one in pool.map(judged, jobs) if one is not None]
                name = f"{target.file} {target.name}"
                print(f"{name}: {len(jobs)} mutants, {len(alive)} survive", flush=True)
                found += alive
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants")
    parser.add_argument("-j", dest="processes", type=int, default=2)
    parser.add_argument("--tests", action="append", help="instead of those of the targets")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="only targets that contain it")
    given = parser.parse_args()
    targets = [
        msgspec.structs.replace(target, tests=tuple(given.tests or target.tests))
        for target in TARGETS
        if not given.texts or any(text in f"{target.file} {target.name}" for text in given.texts)
    ]
    survivors = run(targets, given.processes)
    alive = {one.explained for one in survivors}
    names = {target.name for target in targets}
    unexplained = [one for one in survivors if one.explained not in REASONS]
    unused = [key for key in REASONS if key not in alive and key[0] in names]
    for name, now in unused:
        print(f"\nExplained, but killed or not there any more: {name}: {now}")
    explained = len(survivors) - len(unexplained)
    print(f"\n{len(unexplained)} mutants survive; {explained} more are equivalent.")
    return 1 if unexplained or unused else 0


if __name__ == "__main__":
    sys.exit(main())
