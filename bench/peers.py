"""Other translators, each installed into a virtual environment of its own.

Each is configured to forward to the mock upstream; `most_streams` is how many streams of 50 tokens
a second it can serve at all, on one core.
"""

from __future__ import annotations

from pathlib import Path

from .environments import installed
from .targets import KEY, Target

LITELLM = "litellm[proxy]==1.109.1"
CODEX_RELAY = "codex-relay==0.5.8"
CODEX_BRIDGE = "codex-bridge-python==0.1.5"
SWITCHYARD = "nemo-switchyard==0.3.0"


def peers() -> list[Target]:
    return [litellm(), codex_relay(), codex_bridge(), switchyard()]


_LITELLM_CONFIG = """\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: {key}
      use_chat_completions_api: true
"""


def litellm() -> Target:
    def command(folder: Path, port: int, upstream: int) -> list[str]:
        config = folder / "config.yaml"
        config.write_text(_LITELLM_CONFIG.format(upstream=upstream, key=KEY))
        words = [str(installed(LITELLM) / "litellm"), "--config", str(config)]
        return [*words, "--host", "127.0.0.1", "--port", str(port)]

    return Target(
        name="LiteLLM proxy",
        command=command,
        environ={
            # Else it fetches a list of prices when it starts, and wants a key for itself.
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        },
        version=lambda: LITELLM.rpartition("=")[2],
        most_streams=200,
        slow=True,
    )


def codex_relay() -> Target:
    def command(_folder: Path, port: int, upstream: int) -> list[str]:
        words = [str(installed(CODEX_RELAY) / "codex-relay"), "--port", str(port)]
        return [*words, "--upstream", f"http://127.0.0.1:{upstream}/v1", "--api-key", KEY]

    return Target(
        name="codex-relay",
        command=command,
        environ={"RUST_LOG": "warn"},
        version=lambda: CODEX_RELAY.rpartition("=")[2],
    )


def codex_bridge() -> Target:
    def command(_folder: Path, port: int, upstream: int) -> list[str]:
        words = [str(installed(CODEX_BRIDGE) / "codex-bridge-python"), "--port", str(port)]
        return [*words, "--upstream", f"http://127.0.0.1:{upstream}/v1", "--api-key", KEY]

    return Target(
        name="codex-bridge-python",
        command=command,
        environ={"CODEX_BRIDGE_LOG": "warning"},
        version=lambda: CODEX_BRIDGE.rpartition("=")[2],
        # Its client opens a hundred connections; later requests wait.
        most_streams=100,
        slow=True,
    )


_SWITCHYARD_ROUTES = """\
schema_version = 1

[llm_clients.mock]
format = "openai_chat"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key_env = "OPENAI_API_KEY"

[targets.mock]
id = "bench"
llm_client = "mock"

[routes.bench]
id = "bench"
type = "passthrough"
target = "mock"
"""

_SWITCHYARD_PROGRAM = """\
import signal, sys
from switchyard_rust.server import Server
with Server(sys.argv[1], int(sys.argv[2])):
    signal.sigwait({signal.SIGTERM})
"""


def switchyard() -> Target:
    def command(folder: Path, port: int, upstream: int) -> list[str]:
        routes = folder / "routes.toml"
        routes.write_text(_SWITCHYARD_ROUTES.format(upstream=upstream))
        python = installed(SWITCHYARD) / "python"
        return [str(python), "-c", _SWITCHYARD_PROGRAM, str(routes), str(port)]

    return Target(
        name="nemo-switchyard",
        command=command,
        environ={"RUST_LOG": "warn"},
        version=lambda: SWITCHYARD.rpartition("=")[2],
    )
