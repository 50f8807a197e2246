"""The first five minutes of a newcomer, played as they are typed, with the seconds of each step.

    python -m tests.first_minutes        (`make first-minutes` installs Codex and Chromium before)

An empty clone, a HOME of its own, and a PATH with uv, pipx, node and what the system has. He installs
the tool by each of the README's two ways, checks an upstream, runs Codex on it by one command, starts
the service, sends the README's request, opens the page in Chromium, and makes the most likely
mistakes, each of which has to answer with what to do. The upstream is a scripted one on this
machine. Exit code 1 where a step does not do what it should.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from tests.browser import chromium
from tests.clients.upstream import ScriptedUpstream, Turn

ROOT = Path(__file__).parents[1]
STEP_S = 300
"""Upper bound of one step, in seconds: installing is one."""

MODEL = "accounts/fireworks/models/kimi-k2p6"
FIREWORKS = "https://api.fireworks.ai/inference/v1"


class StepFailed(Exception):
    """A step that does not do what it should; the text says what it did."""


class Newcomer:
    """Somebody with a terminal, in the folder of the clone."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.folder = scratch / "translator"
        home = scratch / "home"
        home.mkdir()
        codex = shutil.which("codex") or ROOT / ".clients" / "node_modules" / ".bin" / "codex"
        places = (home / ".local" / "bin", scratch / "tools" / "bin", Path(codex).parent)
        kept = {name: os.environ[name] for name in os.environ if not name.startswith("TRANSLATOR_")}
        self.environ = kept | {
            "HOME": str(home),
            "PATH": os.pathsep.join([*map(str, places), "/usr/local/bin", "/usr/bin", "/bin"]),
            "FIREWORKS_API_KEY": "sk-of-the-newcomer",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        self.environ.pop("VIRTUAL_ENV", None)
        node = shutil.which("node")
        if node is not None:
            self.environ["PATH"] += os.pathsep + str(Path(node).parent)

    def types(self, line: str, *, code: int = 0, shows: str = "", says: str | None = None) -> str:
        """Type a line; its output has to match `shows`. Returns it.

        `says` is the line as it is printed here, where it is not for anybody's eyes.
        """
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.folder if self.folder.exists() else self.scratch,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=STEP_S,
            check=False,
        )
        _report(time.monotonic() - began, says or line)
        if done.returncode != code:
            raise StepFailed(f"exit code {done.returncode}, and not {code}:\n{done.stdout[-3000:]}")
        if not re.search(shows, done.stdout):
            raise StepFailed(f"nothing in it matches {shows!r}:\n{done.stdout[-3000:]}")
        return done.stdout

    @contextmanager
    def serves(self, line: str) -> Generator[str]:
        """A service in a terminal of its own; its base URL, without `/v1`."""
        log = self.scratch / "serve.log"
        began = time.monotonic()
        with log.open("w") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {line}"],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            while not (found := re.search(r"listens on (http://\S+?)/v1", log.read_text())):
                if process.poll() is not None or time.monotonic() - began > STEP_S:
                    raise StepFailed(f"it does not listen:\n{log.read_text()[-3000:]}")
                time.sleep(0.02)
            _report(time.monotonic() - began, f"{line} &")
            yield found[1]
        finally:
            process.terminate()
            process.wait()


def _report(seconds: float, what: str) -> None:
    print(f"{seconds:6.1f} s  {what}", flush=True)


def readme_lines() -> list[str]:
    """The commands of the README's second section, as they stand there."""
    text = (ROOT / "README.md").read_text("utf-8").partition("\n## Sixty seconds")[2]
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def install(newcomer: Newcomer) -> None:
    """By uv and by pipx, whichever comes first in the README."""
    lines = readme_lines()
    [line] = [one for one in lines if one.startswith("uv tool install ")]
    uv, _, pipx = line.partition("# or: ")
    newcomer.types(uv.strip())
    newcomer.types("translator --version", shows=r"^translator \d+\.\d+")
    newcomer.types("uv tool uninstall translator")
    newcomer.types(pipx.strip())
    newcomer.types("translator --version", shows=r"^translator \d+\.\d+")


def use(newcomer: Newcomer, upstream: ScriptedUpstream) -> None:
    """Check, Codex by one command, the README's request, and the page."""
    url = upstream.base_url
    upstream.play(*[Turn(text="Hello.")] * 4)
    newcomer.types(f"translator check --upstream {url} --api-key-env FIREWORKS_API_KEY", shows="✓")
    upstream.play(*[Turn(text="The file has three lines.")] * 4)
    told = newcomer.types(
        f"translator up --upstream {url} --dialect fireworks --api-key-env FIREWORKS_API_KEY "
        f"--model {MODEL} -- codex exec --skip-git-repo-check 'how long is it?'",
        shows="The file has three lines.",
    )
    if "Model metadata for" in told:
        raise StepFailed(f"Codex warns:\n{told}")
    lines = readme_lines()
    [serve] = [one for one in lines if one.startswith("translator serve ")][:1]
    serve = serve.replace(FIREWORKS, f"{url} --dialect fireworks --port 0")
    [curl] = [one for one in lines if one.startswith("curl ")]
    with newcomer.serves(serve) as served:
        upstream.play(Turn(text="Hello."))
        curl = curl.replace("http://127.0.0.1:8080", served)
        newcomer.types(curl, shows=r"(?s)\Aevent: response\.created.*data: \[DONE\]\s*\Z|Hello\.")
        began = time.monotonic()
        asyncio.run(open_page(f"{served}/"))
        _report(time.monotonic() - began, f"chromium {served}/")


async def open_page(url: str) -> None:
    """Open the page, and copy the first snippet."""
    from playwright.async_api import async_playwright

    found = chromium.found()
    if found is None:
        raise StepFailed("there is no Chromium: make install-browser")
    program, environ = found
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-dev-shm-usage"],
            env={**os.environ, **environ},
        )
        page = await browser.new_page()
        wrong: list[str] = []
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        await page.goto(url)
        text = await page.inner_text("body")
        await browser.close()
    if wrong or "/v1" not in text or "translator" not in text.lower():
        raise StepFailed(f"the page: {wrong or text[:500]}")


def mistakes(newcomer: Newcomer, upstream: ScriptedUpstream) -> None:
    """Each answers with what to do."""
    url = upstream.base_url
    without = url.removesuffix("/v1")
    newcomer.types(
        f"translator serve --upstream {url.removeprefix('http://')}",
        code=2,
        shows=r"http://|https://",
    )
    newcomer.types(
        f"translator serve --upstream {url} --api-key-env FIREWORK_API_KEY",
        code=2,
        shows="FIREWORK_API_KEY is not set",
    )
    newcomer.types(f"translator check --upstream {without}", code=1, shows=re.escape(url))
    newcomer.types("translator serve --config setings.toml", code=2, shows="setings.toml")
    newcomer.types("translator serv --upstream x", code=2, shows="serve")
    with newcomer.serves(f"translator serve --upstream {url} --port 0") as served:
        port = served.rpartition(":")[2]
        newcomer.types(f"translator serve --upstream {url} --port {port}", code=2, shows="--port")
        ask = 'curl -s -d \'{"model": "m", "input": "Hi"}\''
        newcomer.types(f"{ask} {served}/v1/respones", shows="Did you mean /v1/responses")
        newcomer.types(f"{ask} {served}/v1/chat/completions", shows="/v1/responses")


PARTS: tuple[Callable[..., None], ...] = (use, mistakes)


def main() -> int:
    if sys.platform != "linux":
        print("the newcomer has a Linux machine")
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        newcomer = Newcomer(Path(scratch))
        try:
            newcomer.types(f"git clone --quiet {ROOT} translator", says="git clone … translator")
            newcomer.types(
                f"{sys.executable} -m venv {scratch}/tools && "
                f"{scratch}/tools/bin/pip install -q uv pipx",
                says="(uv and pipx, for whom has none)",
            )
            install(newcomer)
            with ScriptedUpstream() as upstream:
                for part in PARTS:
                    part(newcomer, upstream)
        except (StepFailed, subprocess.TimeoutExpired) as failed:
            print(f"          this failed: {failed}")
            return 1
    _report(time.monotonic() - began, "in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
