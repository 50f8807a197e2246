"""Items of the Responses API: what a response's `output` and a request's `input` are lists of.

Output items are exact: a field is there because the contract wants it there. An open item is
announced empty and repeated whole when it is done. Input items are lenient: `id`, `status` and
other bookkeeping that clients echo is skipped, optional fields may be missing or null.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from .deltas import Logprob

Status = Literal["in_progress", "completed", "incomplete"]

# --- parts of output items ------------------------------------------------------------------


class UrlCitation(Struct, frozen=True, tag_field="type", tag="url_citation"):
    """A web source of a piece of text; indexes count characters."""

    start_index: int
    end_index: int
    title: str
    url: str


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of the answer. Both lists are always there: clients index into them."""

    text: str
    annotations: list[UrlCitation]
    logprobs: list[Logprob]


class OutputRefusal(Struct, frozen=True, tag_field="type", tag="refusal"):
    """The model's words of refusal."""

    refusal: str


class SummaryText(Struct, frozen=True, tag_field="type", tag="summary_text"):
    """Reasoning in the form that clients show."""

    text: str


class ReasoningText(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """Reasoning in its raw form."""

    text: str


OutputPart = OutputText | OutputRefusal | ReasoningText

# --- output items -----------------------------------------------------------------------------


class Message(Struct, frozen=True, tag_field="type", tag="message"):
    """What the model says to the user."""

    id: str
    status: Status
    content: list[OutputText | OutputRefusal]
    role: Literal["assistant"] = "assistant"


class Reasoning(Struct, frozen=True, tag_field="type", tag="reasoning"):
    """What the model thinks before it speaks or calls.

    `summary` is always there, if empty: openai-node throws without it. `content` and
    `encrypted_content` are left out when there is nothing to say: the latter may not be null.
    """

    id: str
    summary: list[SummaryText]
    content: list[ReasoningText] | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET


class FunctionCall(Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call of a function tool; `arguments` is JSON text, whole when the status is completed."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: Status
    namespace: str | UnsetType = UNSET


class CustomToolCall(Struct, frozen=True, tag_field="type", tag="custom_tool_call"):
    """A call of a free-form tool; `input` is plain text."""

    id: str
    call_id: str
    name: str
    input: str
    status: Status
    namespace: str | UnsetType = UNSET


class ToolSearchCall(Struct, frozen=True, tag_field="type", tag="tool_search_call"):
    """A search for tools that the client carries out; `arguments` is a JSON object, not text."""

    id: str
    call_id: str
    arguments: Raw
    status: Status
    execution: Literal["client"] = "client"


class LocalShellAction(Struct, frozen=True, tag_field="type", tag="exec"):
    """One command of the local shell, as a list of words; the timeout is in milliseconds."""

    command: list[str]
    env: dict[str, str]
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


class LocalShellCall(Struct, frozen=True, tag_field="type", tag="local_shell_call"):
    """A command that the client runs in its own shell."""

    id: str
    call_id: str
    action: LocalShellAction
    status: Status


class ShellAction(Struct, frozen=True):
    """Commands for the shell tool; the timeout is in milliseconds, the length in characters."""

    commands: list[str]
    timeout_ms: int | None = None
    max_output_length: int | None = None


class LocalEnvironment(Struct, frozen=True, tag_field="type", tag="local"):
    """The client's own machine: the only place where an emulated shell call can run."""


class ShellCall(Struct, frozen=True, tag_field="type", tag="shell_call"):
    """Commands that the client runs, one after the other."""

    id: str
    call_id: str
    action: ShellAction
    status: Status
    environment: LocalEnvironment = LocalEnvironment()


class FileOperation(Struct, frozen=True, omit_defaults=True):
    """One change of one file; `diff` is absent when the file is deleted."""

    type: Literal["create_file", "update_file", "delete_file"]
    path: str
    diff: str | UnsetType = UNSET


class ApplyPatchCall(Struct, frozen=True, tag_field="type", tag="apply_patch_call"):
    """A change of a file that the client applies."""

    id: str
    call_id: str
    operation: FileOperation
    status: Status


class Compaction(Struct, frozen=True, tag_field="type", tag="compaction"):
    """The conversation, summed up: it stands for all that came before it."""

    id: str
    encrypted_content: str


OutputItem = (
    Message
    | Reasoning
    | FunctionCall
    | CustomToolCall
    | ToolSearchCall
    | LocalShellCall
    | ShellCall
    | ApplyPatchCall
    | Compaction
)

# --- parts of input items -------------------------------------------------------------------


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text from the client."""

    text: str


class EchoedText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of an earlier answer, echoed by the client, often without its annotations."""

    text: str


class PlainText(Struct, frozen=True, tag_field="type", tag="text"):
    """Text under the name that Chat Completions gives it; several clients mix the two."""

    text: str


class InputImage(Struct, frozen=True, tag_field="type", tag="input_image"):
    """An image by URL (http, https or data) or by file id.

    The URL stays the JSON string that it was: a screenshot of megabytes is not worth decoding.
    """

    image_url: Raw | UnsetType = UNSET
    file_id: str | None = None
    detail: str | None = None


class InputFile(Struct, frozen=True, tag_field="type", tag="input_file"):
    """A file: inline (base64, or a data URL), by URL, or by file id."""

    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class AudioClip(Struct, frozen=True):
    """Sound, base64."""

    data: str
    format: str


class InputAudio(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Sound from the client."""

    input_audio: AudioClip


class EncryptedContent(Struct, frozen=True, tag_field="type", tag="encrypted_content"):
    """A text for another agent; sealed by OpenAI, plain when the parent's model is not theirs."""

    encrypted_content: str


TextPart = InputText | EchoedText | PlainText | SummaryText | ReasoningText
InputPart = TextPart | OutputRefusal | InputImage | InputFile | InputAudio | EncryptedContent
Content = str | list[str | InputPart] | None

# --- input items ----------------------------------------------------------------------------


class Head(Struct, frozen=True):
    """What tells one input item from another; `type` may be missing from messages."""

    type: str | None = None
    role: str | None = None


class PlainMessage(Struct, frozen=True):
    """A message of any role, without `type`."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class InputMessage(PlainMessage, frozen=True, tag_field="type", tag="message"):
    """A message of any role."""


class InputReasoning(Struct, frozen=True, tag_field="type", tag="reasoning"):
    """Reasoning of an earlier answer, as the client got it or as much as it kept."""

    id: str | None = None
    summary: list[SummaryText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class InputFunctionCall(Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call that the model made."""

    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class InputCustomToolCall(Struct, frozen=True, tag_field="type", tag="custom_tool_call"):
    """A free-form call that the model made."""

    call_id: str
    name: str
    input: str
    namespace: str | None = None


class FunctionCallOutput(Struct, frozen=True, tag_field="type", tag="function_call_output"):
    """What came of a call: text, or parts with text, images and files.

    Text stays the JSON string that it was: most of a long session is made of such texts.
    """

    output: Raw
    call_id: str | None = None


class CustomToolCallOutput(Struct, frozen=True, tag_field="type", tag="custom_tool_call_output"):
    """What came of a free-form call, as of any other."""

    output: Raw
    call_id: str | None = None


UsualInputItem = (
    InputMessage
    | InputReasoning
    | InputFunctionCall
    | FunctionCallOutput
    | InputCustomToolCall
    | CustomToolCallOutput
)
"""What the input of a session with an agent is made of, nearly all of it."""


class InputToolSearchCall(Struct, frozen=True):
    """A search for tools that the model asked for."""

    arguments: Raw
    call_id: str | None = None


class ToolSearchOutput(Struct, frozen=True):
    """The tools that were found; callable from here on."""

    tools: list[Raw]
    call_id: str | None = None


class AdditionalTools(Struct, frozen=True):
    """Tools that a client declares inside its input instead of in `tools`."""

    tools: list[Raw]


class InputLocalShellCall(Struct, frozen=True):
    """A command that the model ran in the client's shell."""

    action: Raw
    call_id: str | None = None
    id: str | None = None


class LocalShellOutput(Struct, frozen=True):
    """What the command printed; its `id` is the call's id where `call_id` is missing."""

    output: Content
    call_id: str | None = None
    id: str | None = None


class InputShellCall(Struct, frozen=True):
    """Commands that the model ran."""

    call_id: str
    action: Raw


class ShellOutput(Struct, frozen=True):
    """What the commands printed and how they ended, one entry per command."""

    call_id: str
    output: Raw


class InputApplyPatchCall(Struct, frozen=True):
    """A change of a file that the model made."""

    call_id: str
    operation: Raw


class ApplyPatchOutput(Struct, frozen=True):
    """Whether the change could be applied."""

    call_id: str
    status: str | None = None
    output: str | None = None


class ItemReference(Struct, frozen=True):
    """An item that the server is supposed to remember."""

    id: str


class AgentMessage(Struct, frozen=True):
    """A message from one agent to another: the task of a sub-agent, or its report."""

    content: Content = None
    encrypted_content: str | None = None
    author: str | None = None
    recipient: str | None = None


class McpCall(Struct, frozen=True):
    """A call that a hosted MCP connector carried out inside an earlier answer."""

    name: str
    arguments: str
    server_label: str | None = None
    output: str | None = None
    error: Raw | UnsetType = UNSET


class CompactionItem(Struct, frozen=True):
    """A context that was compacted; the blob is the server's own."""

    encrypted_content: str


class ConfigurationUpdate(Struct, frozen=True):
    """A change of settings from here on."""

    reasoning: Raw | UnsetType = UNSET
    text: Raw | UnsetType = UNSET
