"""The package as users install it: its wheel and its sdist, by uv, by pipx, and into an image."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from .installing import BIN, ROOT, built, install, run, serving
from .test_examples import DOCKERFILE, EXAMPLES, instruction

PATH = "/usr/bin:/bin"
UPSTREAM = ("--upstream", "http://127.0.0.1:9/v1")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an installer does that has only that."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return built("wheel", source, folder / "dist")


def packaged(folder: Path) -> set[str]:
    """The modules of a folder, and the files of its pages."""
    files = list(folder.rglob("*.py"))
    for where in ("page/*.*", "console/templates/*.html", "console/static/*.*"):
        files += [path for path in folder.glob(f"service/{where}") if path.suffix != ".py"]
    return {str(path.relative_to(ROOT)) for path in files}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    information = {name for name in names if ".dist-info/" in name}
    assert names - information == packaged(ROOT / "translator") | {"translator/py.typed"}
    assert any(name.endswith("/licenses/LICENSE") for name in information)


def test_the_sdist_holds_what_its_pages_link_to(sdist: Path) -> None:
    """Tests, examples and pages: who has only the sdist can read and test."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    readme = (ROOT / "README.md").read_text("utf-8")
    linked = set(re.findall(r"\]\(([\w./-]+)\)", readme))
    assert {"docs/start.md", "docs/demo.svg", "CHANGELOG.md"} <= linked
    for name in linked | {
        "Makefile",
        "examples/Dockerfile",
        "tests/test_docs.py",
        "bench/goals.py",
    }:
        assert name in names or any(other.startswith(f"{name}/") for other in names), name


def test_the_wheel_runs_where_it_is_installed(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own; the packages that it needs are those of the tests."""
    uv, python = BIN / "uv", tmp_path / "env/bin/python"
    assert (
        run([uv, "venv", tmp_path / "env", "--python", BIN / "python"], cwd=tmp_path).returncode
        == 0
    )
    done = run(
        [uv, "pip", "install", "--offline", "--no-deps", "--python", python, wheel], cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    [packages] = (tmp_path / "env").glob("lib/*/site-packages")
    (packages / "packages-of-the-tests.pth").write_text(sysconfig.get_path("purelib"))
    program = tmp_path / "env/bin/translator"
    where = run([python, "-c", "import translator; print(translator.__file__)"], cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(packages)
    found = run([program, "serve"], cwd=tmp_path, env={"PATH": PATH})
    assert found.stderr == "translator: serve needs --upstream URL or --config FILE\n"


@pytest.mark.parametrize(
    ("tool", "command", "folders"),
    [
        ("uv", ["uv", "tool", "install"], {"UV_TOOL_DIR": "tools", "UV_TOOL_BIN_DIR": "bin"}),
        ("pipx", ["pipx", "install"], {"PIPX_HOME": "tools", "PIPX_BIN_DIR": "bin"}),
    ],
)
def test_without_the_extra_the_hint_installs_it(
    wheel: Path, tmp_path: Path, tool: str, command: list[str], folders: dict[str, str]
) -> None:
    """`serve` says what is missing, and by which command it comes; typed as printed, it helps."""
    environment = {name: str(tmp_path / folder) for name, folder in folders.items()}
    install([BIN / command[0], *command[1:], wheel], cwd=tmp_path, env=environment)
    program = tmp_path / "bin/translator"
    missing = run([program, "serve", *UPSTREAM], cwd=tmp_path, env={"PATH": PATH})
    assert missing.returncode == 2
    hint = missing.stderr.strip().rpartition("install it with ")[2]
    words = shlex.split(hint)
    assert words == [*command, "--force", f"{wheel}[service]"]
    install([BIN / words[0], *words[1:]], cwd=tmp_path, env=environment)
    found = run([program, "serve"], cwd=tmp_path, env={"PATH": PATH})
    assert found.stderr == "translator: serve needs --upstream URL or --config FILE\n"


def test_the_image_is_built_by_its_lines(tmp_path: Path) -> None:
    """No container engine: its RUN lines make an environment here, and the service answers in it."""
    copied, venv = tmp_path / "src", tmp_path / "venv"
    stage = DOCKERFILE.partition("AS build\n")[2].partition("\nFROM ")[0]
    shell: list[str] = []
    for line in stage.replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "COPY":
            for name in rest.split()[:-1]:
                (copied / name).parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                copy(ROOT / name, copied / name)
        elif word == "RUN":
            shell.append(rest.replace("/venv", str(venv)))
        else:
            known = ("WORKDIR /src", "ENV UV_COMPILE_BYTECODE=1")
            assert not line or line.startswith("#") or line in known, line
    # Which is here already, in the same version.
    assert shell.pop(0) == f"pip install --no-cache-dir uv=={importlib.metadata.version('uv')}"
    for line in shell:
        install(["sh", "-euc", line], cwd=copied)
    assert not list((venv / "bin").glob("pip*"))

    [program] = json.loads(instruction("ENTRYPOINT"))
    words = json.loads(instruction("CMD"))
    for option, value in (
        ("--config", EXAMPLES / "one-upstream.toml"),
        ("--host", "127.0.0.1"),
        ("--port", 0),
    ):
        words[words.index(option) + 1] = str(value)
    environment = {"PATH": f"{venv / 'bin'}:{PATH}", "PYTHONDONTWRITEBYTECODE": "1"}
    with serving([venv / "bin" / program, *words], cwd=tmp_path, env=environment) as url:
        check = instruction("HEALTHCHECK").partition("CMD ")[2]
        assert "http://127.0.0.1:8080/" in check
        here = json.loads(check.replace("http://127.0.0.1:8080", url.removesuffix("/v1")))
        subprocess.run([venv / "bin" / here[0], *here[1:]], env=environment, timeout=60, check=True)
