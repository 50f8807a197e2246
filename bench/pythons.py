"""The service under other versions of Python, side by side.

    python -m bench pythons [--quick] [--python 3.13 ...] [--instructions]

A version is that of the machine (`python3.13` on the path, or pyenv's), else, and as `debian-3.13`,
Debian's package, unpacked beside the benchmark with all that it needs, and started by its own
loader: its C library may be newer than the machine's. The service's dependencies are wheels of the
versions that run here, so only Python differs. How it was built tells as much as its version:
Debian's are optimised by a profile and at link time, pyenv's are not unless asked for. With
`--instructions` they are counted, which needs no idle machine.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from . import instructions
from .footprint import memory_of
from .load import mock_upstream
from .rig import log_progress, rig
from .scheduler import TARGET_CPU
from .section import Section, table
from .targets import ROOT, SCRATCH, Target, Unavailable, started, translator
from .ways import QUICK, STREAMS, THOROUGH, Comparison, per_request, per_token, report

DEBIAN = "debian-"
RELEASES = {"3.11": "bookworm", "3.13": "trixie", "3.14": "sid"}
"""The release of Debian that has a version."""

USUAL = ("3.13", "debian-3.11", "debian-3.13", "debian-3.14")

FOLDER = SCRATCH / "pythons"
APT_TIMEOUT_S = 600
HERE = "{}.{}.{}".format(*sys.version_info)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Interpreter(msgspec.Struct, frozen=True):
    """A Python, and the words that start it."""

    version: str
    command: Sequence[str]
    packages: Path | None = None
    """The folder of the service's dependencies, where it has no environment of its own."""


def interpreter(version: str) -> Interpreter:
    """A Python with the dependencies of the service; raises Unavailable."""
    number = version.removeprefix(DEBIAN)
    command = None if version.startswith(DEBIAN) else installed_command(number)
    of_debian = "" if command else " (Debian)"
    command = command or unpacked_command(debian(number), number)
    whole = _run([*command, "-c", _VERSION]).strip()
    return Interpreter(f"{whole}{of_debian}", command, packages_for(number, command))


_VERSION = "import platform; print(platform.python_version())"


def installed_command(version: str) -> list[str] | None:
    """The machine's own Python of a version: one on the path, or one of pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    found = [shutil.which(f"python{version}")]
    found += map(str, sorted(pyenv.glob(f"{version}.*/bin/python{version}")))
    for program in filter(None, found):
        try:
            _run([program, "-c", _VERSION])
        except Unavailable:
            continue  # a shim of a version that is not chosen
        return [program]
    return None


def debian(version: str) -> Path:
    """The folder of Debian's python of a version, with all that it depends on."""
    folder = FOLDER / version
    files = folder / "unpacked"
    if files.exists():
        return files
    if version not in RELEASES:
        raise Unavailable(f"no release of Debian is known to have Python {version}")
    log_progress(f"unpacking Python {version}")
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    configuration = folder / "apt.conf"
    (folder / "status").touch()  # nothing is installed: all that it depends on is fetched, too
    (folder / "sources.list").write_text(source(RELEASES[version]))
    configuration.write_text(
        f'Dir::Etc::sourcelist "{folder}/sources.list";\n'
        'Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State "{folder}/state";\n'
        f'Dir::State::status "{folder}/status";\n'
        f'Dir::Cache "{folder}/cache";\n'
    )
    environ = {"APT_CONFIG": str(configuration)}
    _run(["apt-get", "update"], environ)
    package = f"python{version}"
    _run(
        ["apt-get", "install", "-y", "--download-only", "--no-install-recommends", package], environ
    )
    unfinished = folder / "unfinished"
    unfinished.mkdir()
    for archive in (folder / "cache" / "archives").glob("*.deb"):
        _run(["dpkg", "-x", str(archive), str(unfinished)])
    unfinished.rename(files)
    return files


def source(release: str) -> str:
    """A line of apt's sources for another release, on the mirror that this machine uses."""
    listed = _run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(CREATED_BY)"])
    for line in listed.splitlines():
        match line.split():
            case ["Debian", mirror, "Packages"] if "security" not in mirror:
                signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
                return f"deb {signed}{mirror} {release} main\n"
            case _:
                continue
    raise Unavailable("this machine has no mirror of Debian")


def unpacked_command(files: Path, version: str) -> list[str]:
    """The words that start an unpacked Python with the loader and the libraries beside it."""
    found = [*files.glob("lib*/**/*.so.*"), *files.glob("usr/lib*/**/*.so.*")]
    loaders = [path for path in found if path.name.startswith("ld-linux") and path.exists()]
    if not loaders:
        raise Unavailable(f"Python {version} was unpacked without a loader")
    libraries = sorted({str(path.parent) for path in found if path.name.startswith("lib")})
    program = files / "usr" / "bin" / f"python{version}"
    return [str(loaders[0]), "--library-path", ":".join(libraries), str(program)]


def packages_for(version: str, command: Sequence[str]) -> Path:
    """A folder with the dependencies of the service for a version, as wheels."""
    folder = FOLDER / f"{version}-packages"
    if folder.exists():
        return folder
    log_progress(f"installing the dependencies for Python {version}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["service"]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    versions = FOLDER / "versions.txt"
    installed = {one.name: one.version for one in importlib.metadata.distributions()}
    del installed["translator"]
    versions.write_text("".join(f"{name}=={of}\n" for name, of in installed.items()))
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    pip = str(importlib.metadata.distribution("pip").locate_file("pip"))
    _run(
        [
            *(*command, pip, "install", "--quiet", "--disable-pip-version-check"),
            *("--only-binary", ":all:", "--target", str(unfinished)),
            *("--constraint", str(versions), *needed),
        ]
    )
    unfinished.rename(folder)
    return folder


def _run(command: Sequence[str], environ: dict[str, str] | None = None) -> str:
    """What the command prints; raises Unavailable with the end of its errors."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{command[0]} fails: {error}") from None
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command[:3])} fails: {done.stderr.strip()[-300:]}")
    return done.stdout


# ---- the report ----------------------------------------------------------------------------------


def target(one: Interpreter) -> Target:
    """The service under a Python."""
    usual = translator(name=f"Python {one.version}")

    def command(folder: Path, port: int, upstream: int) -> list[str]:
        return [*one.command, *usual.command(folder, port, upstream)[1:]]

    paths = [str(ROOT), *([str(one.packages)] if one.packages else [])]
    return msgspec.structs.replace(usual, command=command, environ={"PYTHONPATH": ":".join(paths)})


def sections(
    *, quick: bool, versions: Sequence[str] = (), counted: bool = False
) -> Iterator[Section]:
    """CPU time per token and per request, start and memory, as ratios to the Python of this run.

    With `counted`, instructions and cache misses instead.
    """
    here = Interpreter(HERE, [sys.executable])
    others: list[Interpreter] = []
    remarks: list[str] = []
    for version in versions or USUAL:
        try:
            others.append(interpreter(version))
        except Unavailable as reason:
            remarks.append(f"Python {version} is left out: {reason}")
    targets = [target(one) for one in (here, *others)]
    if counted:
        yield msgspec.structs.replace(counts(targets, quick=quick), remarks=remarks)
    else:
        yield from beside_first(targets, quick=quick, remarks=remarks)


def counts(targets: Sequence[Target], *, quick: bool) -> Section:
    """Instructions and cache misses of each target."""
    tool, repeats = instructions.valgrind(), 1 if quick else instructions.REPEATS
    with mock_upstream(cpu=None) as mock:
        runs: dict[str, list[dict[str, float]]] = {}
        for one in targets:
            log_progress(f"counting {one.name}")
            runs[one.name] = [instructions.of_service(tool, mock, one, repeats=repeats)]
    return instructions.report(runs)


def beside_first(
    targets: Sequence[Target], *, quick: bool, remarks: Sequence[str] = ()
) -> Iterator[Section]:
    """Targets that are the service in different surroundings, as ratios to the first of them."""
    first = targets[0].name
    comparisons = [Comparison(one.name, first, one.name) for one in targets[1:]]
    with rig(targets, QUICK if quick else THOROUGH) as rigged:
        rounds = [*remarks, *rigged.left_out, f"{rigged.effort.rounds} rounds, interleaved."]
        title = f"CPU per token, {STREAMS} streams"
        yield report(title, per_token(rigged), first, comparisons, rounds)
        yield report("CPU per short request", per_request(rigged), first, comparisons, [])
        there = [running.target for running in rigged.running]
        rounds_of_starts = rigged.effort.rounds
    yield footprints(there, rounds_of_starts)


def footprints(targets: Sequence[Target], rounds: int) -> Section:
    """Start-up time and memory of each, as ratios to the first."""
    started_s: dict[str, list[float]] = {one.name: [] for one in targets}
    held: dict[str, tuple[int, float, int]] = {}
    for number in range(rounds):
        for one in targets:
            log_progress(f"starting {one.name}")
            with mock_upstream() as mock, started(one, mock.port, TARGET_CPU) as running:
                started_s[one.name].append(running.started_s)
                if number == 0:
                    held[one.name] = memory_of(mock, running)
    start_s = {name: statistics.median(times) for name, times in started_s.items()}
    first = targets[0].name
    rows = [
        (
            name,
            f"{start_s[name]:.2f}",
            f"{start_s[name] / start_s[first]:.2f}",
            f"{each:.1f}",
            f"{each / held[first][1]:.2f}",
        )
        for name, (_, each, _) in held.items()
    ]
    head = ("", "s to the first answer", "×", "KiB per stream", "×")
    return Section(title="Start-up, and memory of open streams", table=table(head, rows))
