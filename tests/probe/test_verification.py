"""Only settings that have passed an agent turn are printed; else the next best are tried."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import httpx
import msgspec
import pytest

from translator.__main__ import main
from translator.dialects import DIALECTS, Dialect
from translator.dialects.think_tags import Tags
from translator.probe import payloads
from translator.probe.agent_turn import agent_turn, judged
from translator.probe.findings import contradicted
from translator.probe.replies import Accepted, ReplyReader
from translator.probe.report import TAKEN, Report, as_json, as_settings
from translator.probe.state import ProbeState
from translator.probe.verification import MAX_CANDIDATES
from translator.service.models.table import ModelTable

from . import scripted, upstreams
from .probing import run_probe, settings_of
from .scripted import JSON, ModelOutput, openai_error
from .test_command import listening


def is_turn(body: JSON) -> bool:
    """Whether a body is an agent turn with tools."""
    return "tools" in body and "You answer briefly." in str(body["messages"])


class Recording(scripted.Upstream):
    """Keeps the agent turns that it rejects, and those that it accepts."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: list[JSON] = []
        self.rejected: list[JSON] = []

    def check_turn(self, body: JSON) -> None:
        """Raises Refusal."""

    def check(self, body: JSON) -> None:
        super().check(body)
        if is_turn(body):
            try:
                self.check_turn(body)
            except scripted.Refusal:
                self.rejected.append(body)
                raise
            self.accepted.append(body)


def written_by(report: Report, **more: bool) -> JSON:
    """The agent turn as the service writes it with the printed settings."""
    route = ModelTable(settings_of(report), created=0).route(report.model)
    state = ProbeState(report.model)
    body: JSON = msgspec.json.decode(agent_turn(state, route.dialect, **more).chat_body)
    return body


def assert_checked(report: Report, behind: Recording) -> None:
    """The printed settings wrote turns that were accepted, and none that was rejected."""
    for wants_call in (False, True):
        body = written_by(report, wants_call=wants_call)
        assert body in behind.accepted
        assert body not in behind.rejected
    assert report.trials[-1].status == "passed"
    assert report.agent_turn == TAKEN


# --- the next best --------------------------------------------------------------------------------


class WithoutWords(Recording):
    """Rejects an agent turn that holds something, and does not say what."""

    def __init__(self, *forbidden: str) -> None:
        super().__init__()
        self.forbidden = forbidden

    def thinks(self, body: JSON) -> bool:
        return body.get("chat_template_kwargs", {}).get("enable_thinking") is not False

    def check_turn(self, body: JSON) -> None:
        text = json.dumps(body)
        if any(word in text for word in self.forbidden):
            raise openai_error(400, "Bad request")


@pytest.mark.parametrize(
    "forbidden",
    [
        ("reasoning_content",),
        ("parallel_tool_calls",),
        ("stream_options",),
        ("tool_choice",),
        ("chat_template_kwargs",),
        ("stream_options", "tool_choice", "reasoning_content", "parallel_tool_calls"),
        ("call_translator_probe_1",),
    ],
)
def test_settings_that_are_rejected_are_not_printed(forbidden: tuple[str, ...]) -> None:
    behind = WithoutWords(*forbidden)
    report = run_probe(behind)
    assert behind.rejected
    assert_checked(report, behind)
    failed = [trial for trial in report.trials[:-1] if trial.status == "rejected"]
    assert failed
    text = as_settings(report, name="up", api_key_env=None)
    assert "# settings that failed in an agent turn:\n" in text
    assert f"#   {failed[0].name}: rejected: “Bad request”\n" in text


def test_nothing_is_sent_twice() -> None:
    """Settings that write the same request as others that were rejected are skipped."""
    behind = Hopeless()
    run_probe(behind)
    turns = [json.dumps(body, sort_keys=True) for body in behind.rejected]
    assert len(turns) == len(set(turns)) <= MAX_CANDIDATES


def test_what_is_left_out_for_caution_is_marked() -> None:
    behind = WithoutWords("reasoning_content", "tool_choice")
    report = run_probe(behind)
    assert report.best.name == "base"
    assert report.trials[-1].variant == "without all that is optional"
    text = as_settings(report, name="up", api_key_env=None)
    reason = "# the agent turn was accepted only without all that is optional\n"
    assert f'{reason}reasoning_replay = "drop"\n' in text
    assert f"{reason}tool_choices = []\n" in text


@pytest.mark.parametrize(
    ("wanted", "text", "fact", "value"),
    [
        ("reasoning_split", "Unexpected fields in the request: {'reasoning_split'}", "extra", {}),
        ("reasoning_split", "extra keys 'reasoning_split'", "extra", {}),
        (
            "parallel_tool_calls",
            "Unrecognized field `parallel_tool_calls`",
            "parallel_tool_calls",
            False,
        ),
        ("stream_options", "Unknown parameter: 'stream_options'.", "stream_usage", False),
    ],
)
def test_what_a_rejection_names_is_corrected(wanted: str, text: str, fact: str, value: Any) -> None:
    """In the same dialect, by the second attempt."""

    class Naming(Recording):
        def check_turn(self, body: JSON) -> None:
            if wanted in body:
                raise openai_error(422, text)

    behind = Naming()
    report = run_probe(behind, only="minimax" if fact == "extra" else "base")
    assert [trial.status for trial in report.trials] == ["rejected", "passed"]
    assert report.trials[-1].variant == ""
    assert getattr(report.best.corrected, fact) == value
    assert_checked(report, behind)


@pytest.mark.parametrize(
    ("text", "fact", "value"),
    [
        ("System message must be at the beginning.", "system_messages", "demote_later"),
        (
            "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.",
            "call_ids",
            "nine_alphanumerics",
        ),
        ("Unexpected role 'user' after role 'tool'", "answer_between_tool_and_user", True),
        ("messages[2].reasoning_content is not allowed", "reasoning_replay", "drop"),
    ],
)
def test_a_failing_template_is_corrected_too(text: str, fact: str, value: str | bool) -> None:
    """It fails in an agent turn alone, with a 500."""

    class Failing(Recording):
        def check_turn(self, body: JSON) -> None:
            if body not in self.accepted and len(self.rejected) < 2:
                raise openai_error(500, f"Jinja Exception: {text}")

    behind = Failing()
    report = run_probe(behind, only="base")
    assert getattr(report.best.corrected, fact) == value
    assert report.agent_turn == TAKEN


# --- answers that are misread ---------------------------------------------------------------------


def test_reasoning_in_the_text_of_an_agent_turn_is_a_finding() -> None:
    """The model thinks only where an effort is set, and then between tags."""

    class Tagging(upstreams.LmStudio):
        owner = None

        def thinks(self, body: JSON) -> bool:
            return len(body["messages"]) > 5

    report = run_probe(Tagging(), only="base")
    assert [trial.status for trial in report.trials] == ["wrong", "passed"]
    assert report.trials[0].reason == "reasoning is in the text"
    assert report.best.corrected.think_tags == Tags()
    text = as_settings(report, name="up", api_key_env=None)
    assert "#   base: misread: reasoning is in the text\n" in text


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("<think>Hm.</think>Yes.", Tags()),
        ("Hm.</think>Yes.", Tags(opened_by_template=True)),
        ("</think>Yes.", Tags(stray_close=True)),
        ("<think>Hm.</think>Begin with <think>, not with </think>.", Tags()),
    ],
)
def test_tags_in_the_text_show_how_they_are_used(text: str, tags: Tags) -> None:
    """The first answers had none; what is found of them is read rightly then."""

    class Late(scripted.Upstream):
        always_thinks = False

        def obey(self, body: JSON) -> ModelOutput:
            output = super().obey(body)
            return ModelOutput(text=text) if is_turn(body) and not output.calls else output

    report = run_probe(Late(), only="base")
    assert report.agent_turn == TAKEN
    assert {trial.reason for trial in report.trials[:-1]} == {"reasoning is in the text"}
    assert report.best.corrected.think_tags == tags
    assert settings_of(report).upstreams["up"].facts["think_tags"] == tags


def test_a_call_in_the_text_of_an_agent_turn_is_a_finding() -> None:
    class Unparsed(upstreams.Vllm):
        def deltas(self, output: ModelOutput) -> Iterator[JSON]:
            if output.calls and is_turn(self.bodies[-1]):
                yield {"content": upstreams.written_calls(output)}
            else:
                yield from super().deltas(output)

    report = run_probe(Unparsed(), only="vllm")
    assert [trial.status for trial in report.trials] == ["wrong", "passed"]
    assert report.trials[0].reason == "a call is in the text"
    assert report.best.overrides["recover_calls"] is True


def read(dialect: Dialect, *deltas: JSON, finish: str = "stop", wants_call: bool = False) -> Any:
    """How an answer of these deltas is judged."""
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    data = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    data += b"data: [DONE]\n\n"
    reader = ReplyReader()
    reader.feed(data)
    translation = agent_turn(ProbeState("m"), dialect, wants_call=wants_call)
    outcome = Accepted(reader.reply(whole=True), data)
    return judged(outcome, translation, {}, dialect, wants_call=wants_call)


CALL = {"index": 0, "id": "c", "type": "function"}


def test_an_answer_is_judged_by_what_the_service_makes_of_it() -> None:
    base = DIALECTS["base"]
    swallowing = Dialect(name="x", think_tags=Tags(opened_by_template=True))
    whole = {"tool_calls": [{**CALL, "function": {"name": payloads.TOOL, "arguments": "{}"}}]}
    cut = {"tool_calls": [{**CALL, "function": {"name": payloads.TOOL, "arguments": '{"c'}}]}
    assert read(base, {"content": "Yes."}).status == "passed"
    assert read(base, whole, finish="tool_calls", wants_call=True).status == "passed"
    assert read(swallowing, {"content": "Yes."}).status == "wrong"
    assert read(base, {"content": "Hm.</think>Yes."}).status == "wrong"
    assert read(base, cut, finish="tool_calls").status == "unclear"  # the model's own mistake
    assert read(base, {"reasoning_content": "Hm."}, finish="length").status == "unclear"
    assert read(base, {"reasoning_content": "Hm."}).status == "unclear"
    assert read(base, {}).status in ("unclear", "wrong")
    assert read(base, {"content": "Yes."}, wants_call=True).status == "unclear"


def test_a_model_that_makes_no_call_this_time_is_asked_twice() -> None:
    class Moody(upstreams.Vllm):
        def obey(self, body: JSON) -> ModelOutput:
            return super().obey({**body, "tools": []} if is_turn(body) else body)

    behind = Moody()
    report = run_probe(behind)
    assert [trial.status for trial in report.trials] == ["unclear"]
    assert report.works
    assert "but no call" in report.agent_turn
    assert len([body for body in behind.bodies if is_turn(body)]) == 3
    text = as_settings(report, name="up", api_key_env=None)
    assert "with these settings: accepted (agent turn: reasoning, “No.”; call: " in text


# --- the end --------------------------------------------------------------------------------------


class Hopeless(Recording):
    """No conversation with a system message and a result is accepted."""

    def check_turn(self, body: JSON) -> None:
        raise openai_error(400, "no")


def test_where_nothing_works_nothing_is_printed_as_settings() -> None:
    behind = Hopeless()
    report = run_probe(behind)
    assert not report.works
    assert {trial.status for trial in report.trials} == {"rejected"}
    assert 4 < len(report.trials) <= MAX_CANDIDATES
    text = as_settings(report, name="up", api_key_env=None)
    assert all(line.startswith("#") for line in text.splitlines())
    assert "# No settings work: an agent turn failed with all that were tried.\n" in text
    assert "#   base without all that is optional: rejected: “no”\n" in text
    assert "#   stream_usage = true  (" in text  # what is known
    told = as_json(report, name="up", api_key_env=None)
    assert (told["works"], told["settings"], len(told["tried"])) == (False, [], len(report.trials))


def test_where_nothing_works_the_exit_code_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    behind = Hopeless()
    with listening(behind) as url:
        assert main(["probe", "--upstream", url, "--model", behind.model, "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert "[upstreams" not in out
    assert err == (
        "translator: No settings worked, and none are printed. The last reason: rejected: “no”\n"
    )


def test_settings_that_could_not_be_checked_are_printed_as_such(
    capsys: pytest.CaptureFixture[str],
) -> None:
    behind = upstreams.Vllm()
    words = ["probe", "--model", behind.model, "--quiet", "--max-requests", "9", "--upstream"]
    with listening(behind) as url:
        assert main([*words, url]) == 0
    out, err = capsys.readouterr()
    reason = "not checked: not sent: the limit of 9 requests is reached"
    assert f"with these settings: {reason}\n" in out
    assert err == f"translator: The settings are {reason}.\n"


def test_a_key_that_expires_is_no_failure_of_the_settings() -> None:
    class Expiring(upstreams.Vllm):
        def respond(self, request: httpx.Request) -> httpx.Response:
            if is_turn(json.loads(request.content or b'{"messages": []}')):
                return scripted.answer(401, {"error": {"message": "expired"}})
            return super().respond(request)

    report = run_probe(Expiring())
    assert [trial.status for trial in report.trials] == ["unknown"]
    assert (report.works, report.best.name) == (True, "vllm")


class Crashing(upstreams.Vllm):
    """The connection breaks on agent turns that hold something."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word
        self.crashes = 0

    def respond(self, request: httpx.Request) -> httpx.Response:
        text = request.content.decode()
        if self.word in text and "You answer briefly." in text and '"tools"' in text:
            self.crashes += 1
            raise httpx.ReadError("the connection is gone")
        return super().respond(request)


def test_an_agent_turn_that_the_upstream_cannot_bear_is_not_sent_a_third_time() -> None:
    """Another one may be answered."""
    behind = Crashing("reasoning_effort")
    report = run_probe(behind)
    assert behind.crashes == 2
    assert [trial.status for trial in report.trials] == ["lost", "passed"]
    assert "reasoning_effort" not in json.dumps(written_by(report))


def test_an_upstream_that_is_gone_is_no_failure_of_the_settings() -> None:
    behind = Crashing("messages")
    report = run_probe(behind)
    assert behind.crashes == 4
    assert [trial.status for trial in report.trials] == ["lost", "lost"]
    assert report.works
    text = as_settings(report, name="up", api_key_env=None)
    broke = "not checked: The connection to the upstream broke before it answered."
    assert f"with these settings: {broke}\n" in text


def test_without_tools_the_agent_turn_has_none() -> None:
    class NoTools(Recording):
        def check(self, body: JSON) -> None:
            if "tools" in body or any(message["role"] == "tool" for message in body["messages"]):
                raise openai_error(400, "some-model does not support tools")
            super().check(body)

    behind = NoTools()
    report = run_probe(behind)
    assert report.agent_turn == TAKEN
    assert "tools" not in behind.bodies[-1]
    assert "Tools are rejected: “some-model does not support tools”" in report.notes


# --- questions that are lost ----------------------------------------------------------------------


class Lossy(httpx.AsyncByteStream):
    """A body that breaks off in the middle."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> Any:
        yield self.data[: len(self.data) // 2]
        raise httpx.ReadError("the connection is gone")


class Losing:
    """An upstream of which some questions are lost: before an answer, or within it."""

    def __init__(
        self,
        behind: scripted.Upstream,
        is_lost: Callable[[Losing, bytes], bool],
        *,
        within: bool = False,
    ) -> None:
        """`is_lost` is called before the question is among those that were asked."""
        self.behind = behind
        self.model, self.path = behind.model, behind.path
        self.is_lost = is_lost
        self.within = within
        self.asked: list[bytes] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return self.behind(request)
        lost = self.is_lost(self, request.content)
        self.asked.append(request.content)
        if not lost:
            return self.behind(request)
        if not self.within:
            raise httpx.ReadError("the connection is gone")
        response = self.behind(request)
        data = b"".join(response.stream)  # type: ignore[arg-type]
        return httpx.Response(response.status_code, stream=Lossy(data))


@pytest.mark.parametrize("within", [False, True])
def test_a_lost_question_is_asked_again(within: bool) -> None:
    whole = run_probe(upstreams.OpenRouter())
    losing = Losing(
        upstreams.OpenRouter(), lambda self, body: body not in self.asked, within=within
    )
    report = run_probe(losing, max_requests=200)
    assert report.findings == whole.findings
    assert (report.best, report.unknown, report.notes) == (whole.best, whole.unknown, whole.notes)
    if not within:  # else some were answered by their beginning
        assert losing.asked[::2] == losing.asked[1::2]
        assert report.requests == 2 * (whole.requests - 1) + 1


def _from(number: int, losing: Losing, _body: bytes) -> bool:
    """Whether a question is one of two in a row."""
    return len(losing.asked) in (number, number + 1)


@pytest.mark.parametrize("upstream", [upstreams.Fireworks, upstreams.DashScope])
def test_a_question_lost_twice_counts_as_unknown(upstream: type[scripted.Upstream]) -> None:
    """Whichever it is: no dialect is contradicted by it, and the result is the same."""
    whole = run_probe(upstream())
    for number in range(1, whole.requests - 3):
        losing = Losing(upstream(), partial(_from, number))
        report = run_probe(losing)
        assert losing.asked[number] == losing.asked[number + 1]
        assert "The connection to the upstream broke before it answered." in str(report.unknown)
        assert report.best.name == whole.best.name, number
        assert report.agent_turn == TAKEN
        assert contradicted(whole.best.corrected, report.findings) == [], number
