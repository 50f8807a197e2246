"""Items of the Responses API: the elements of a response's `output` and a request's `input`.

Output items are exact: each field is required by the API. An item is added empty and repeated whole
when it is done. Input items are lenient: `id`, `status` and other fields that clients echo are
skipped, and optional fields may be missing or null.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType

from .deltas import Logprob
from .mcp import McpApprovalRequest, McpCall, McpListTools

Status = Literal["in_progress", "completed", "incomplete"]
HostedStatus = Literal["in_progress", "completed", "incomplete", "failed"]

# --- parts of output items ------------------------------------------------------------------


class UrlCitation(Struct, frozen=True, tag_field="type", tag="url_citation"):
    """A web source of a span of text; indexes count characters."""

    start_index: int
    end_index: int
    title: str
    url: str


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of the answer. Both lists are required: clients index into them."""

    text: str
    annotations: list[UrlCitation]
    logprobs: list[Logprob]


class OutputRefusal(Struct, frozen=True, tag_field="type", tag="refusal"):
    """The model's refusal."""

    refusal: str


class SummaryText(Struct, frozen=True, tag_field="type", tag="summary_text"):
    """Reasoning as a summary, the form that clients show."""

    text: str


class ReasoningText(Struct, frozen=True, tag_field="type", tag="reasoning_text"):
    """Reasoning in its raw form."""

    text: str


OutputPart = OutputText | OutputRefusal | ReasoningText

# --- output items -----------------------------------------------------------------------------


class Message(Struct, frozen=True, tag_field="type", tag="message"):
    """A message of the model."""

    id: str
    status: Status
    content: list[OutputText | OutputRefusal]
    role: Literal["assistant"] = "assistant"


class Reasoning(Struct, frozen=True, tag_field="type", tag="reasoning"):
    """Reasoning of the model before a message or a call.

    `summary` is required, even if empty: openai-node throws without it. `content` and
    `encrypted_content` are left out when empty: the latter must not be null.
    """

    id: str
    summary: list[SummaryText]
    content: list[ReasoningText] | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET


class FunctionCall(Struct, frozen=True, tag_field="type", tag="function_call"):
    """A call of a function; `arguments` is JSON text, complete when the status is completed."""

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
    """A tool search, run by the client; `arguments` is a JSON object, not text."""

    id: str
    call_id: str
    arguments: Raw
    status: Status
    execution: Literal["client"] = "client"


class LocalShellAction(Struct, frozen=True, tag_field="type", tag="exec"):
    """One local shell command as a list of arguments; the timeout is in milliseconds."""

    command: list[str]
    env: dict[str, str]
    timeout_ms: int | None = None
    user: str | None = None
    working_directory: str | None = None


class LocalShellCall(Struct, frozen=True, tag_field="type", tag="local_shell_call"):
    """A local shell call, run by the client."""

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
    """The client's machine, the only environment of emulated shell calls."""


class ShellCall(Struct, frozen=True, tag_field="type", tag="shell_call"):
    """A shell call: commands that the client runs in order."""

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
    """A patch of one file, applied by the client."""

    id: str
    call_id: str
    operation: FileOperation
    status: Status


class UrlSource(Struct, frozen=True, tag_field="type", tag="url"):
    """A web page that a search has found."""

    url: str


class SearchAction(Struct, frozen=True, tag_field="type", tag="search"):
    """A search of the web. `query` is deprecated, but what several clients show."""

    query: str
    queries: list[str]
    sources: list[UrlSource] | UnsetType = UNSET


class OpenPageAction(Struct, frozen=True, tag_field="type", tag="open_page"):
    """A page that is opened."""

    url: str


class FindInPageAction(Struct, frozen=True, tag_field="type", tag="find_in_page"):
    """A text that is looked for on a page."""

    url: str
    pattern: str


WebSearchAction = SearchAction | OpenPageAction | FindInPageAction


class SearchResult(Struct, frozen=True):
    """A result of a search, as `include` asks for it."""

    url: str
    title: str
    snippet: str


class WebSearchCall(Struct, frozen=True, tag_field="type", tag="web_search_call"):
    """A call of the search, run by the service; its `action` shows when it is done."""

    id: str
    status: HostedStatus
    action: WebSearchAction | UnsetType = UNSET
    results: list[SearchResult] | UnsetType = UNSET


class Compaction(Struct, frozen=True, tag_field="type", tag="compaction"):
    """A sealed summary that replaces the conversation before it."""

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
    | WebSearchCall
    | McpListTools
    | McpCall
    | McpApprovalRequest
    | Compaction
)

# --- parts of input items -------------------------------------------------------------------


class InputText(Struct, frozen=True, tag_field="type", tag="input_text"):
    """Text from the client."""

    text: str


class EchoedText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of an earlier answer, sent back by the client, often without its annotations."""

    text: str


class PlainText(Struct, frozen=True, tag_field="type", tag="text"):
    """Text under its Chat Completions type name, which several clients send."""

    text: str


class InputImage(Struct, frozen=True, tag_field="type", tag="input_image"):
    """An image by URL (http, https or data) or by file id.

    The URL stays a raw JSON string: decoding a screenshot of megabytes costs too much.
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
    """Audio, as base64, and its format."""

    data: str
    format: str


class InputAudio(Struct, frozen=True, tag_field="type", tag="input_audio"):
    """Audio from the client."""

    input_audio: AudioClip


class EncryptedContent(Struct, frozen=True, tag_field="type", tag="encrypted_content"):
    """A text for another agent; encrypted by OpenAI, plain when another vendor's model wrote it."""

    encrypted_content: str


TextPart = InputText | EchoedText | PlainText | SummaryText | ReasoningText
InputPart = TextPart | OutputRefusal | InputImage | InputFile | InputAudio | EncryptedContent
Content = str | list[str | InputPart] | None

# --- input items ----------------------------------------------------------------------------


class Head(Struct, frozen=True):
    """The discriminator fields of an input item; messages may lack `type`."""

    type: str | None = None
    role: str | None = None


class PlainMessage(Struct, frozen=True):
    """A message of any role, without `type`."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class InputMessage(PlainMessage, frozen=True, tag_field="type", tag="message"):
    """A message of any role."""


class RawMessage(Struct, frozen=True, tag_field="type", tag="message"):
    """A message of any role whose content is decoded by itself, as it is large."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Raw


class InputReasoning(Struct, frozen=True, tag_field="type", tag="reasoning"):
    """Reasoning of an earlier answer; clients may keep only some of its fields."""

    id: str | None = None
    summary: list[SummaryText] | None = None
    content: list[ReasoningText] | None = None
    encrypted_content: str | None = None


class InputFunctionCall(Struct, frozen=True, tag_field="type", tag="function_call"):
    """A function call of an earlier answer."""

    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class InputCustomToolCall(Struct, frozen=True, tag_field="type", tag="custom_tool_call"):
    """A custom tool call of an earlier answer."""

    call_id: str
    name: str
    input: str
    namespace: str | None = None


class FunctionCallOutput(Struct, frozen=True, tag_field="type", tag="function_call_output"):
    """The output of a function call: text, or parts with text, images and files.

    Text stays a raw JSON string: most of a long session consists of such texts.
    """

    output: Raw
    call_id: str | None = None


class CustomToolCallOutput(Struct, frozen=True, tag_field="type", tag="custom_tool_call_output"):
    """The output of a custom tool call, in the same forms."""

    output: Raw
    call_id: str | None = None


CommonInputItem = (
    InputMessage
    | InputReasoning
    | InputFunctionCall
    | FunctionCallOutput
    | InputCustomToolCall
    | CustomToolCallOutput
)
"""The frequent kinds: nearly all items in the input of an agent's session."""


class InputToolSearchCall(Struct, frozen=True):
    """A tool search of an earlier answer."""

    arguments: Raw
    call_id: str | None = None


class ToolSearchOutput(Struct, frozen=True):
    """The tools found by a search; they may be called from here on."""

    tools: list[Raw]
    call_id: str | None = None


class AdditionalTools(Struct, frozen=True):
    """Tools declared in `input` instead of in `tools`."""

    tools: list[Raw]


class InputLocalShellCall(Struct, frozen=True):
    """A local shell call of an earlier answer."""

    action: Raw
    call_id: str | None = None
    id: str | None = None


class LocalShellOutput(Struct, frozen=True):
    """The output of a local shell call; `id` is the call's id where `call_id` is missing."""

    output: Content
    call_id: str | None = None
    id: str | None = None


class InputShellCall(Struct, frozen=True):
    """A shell call of an earlier answer."""

    call_id: str
    action: Raw


class ShellOutput(Struct, frozen=True):
    """The output and exit status of a shell call, one entry per command."""

    call_id: str
    output: Raw


class InputApplyPatchCall(Struct, frozen=True):
    """A patch of an earlier answer."""

    call_id: str
    operation: Raw


class ApplyPatchOutput(Struct, frozen=True):
    """The result of applying a patch."""

    call_id: str
    status: str | None = None
    output: str | None = None


class ItemReference(Struct, frozen=True):
    """A reference to an item stored on the server."""

    id: str


class AgentMessage(Struct, frozen=True):
    """A message between agents: the task of a sub-agent, or its report."""

    content: Content = None
    encrypted_content: str | None = None
    author: str | None = None
    recipient: str | None = None


class InputWebSearchCall(Struct, frozen=True):
    """A search of an earlier answer; some clients keep its results."""

    id: str | None = None
    action: Raw | UnsetType = UNSET
    results: Raw | UnsetType = UNSET


class CompactionItem(Struct, frozen=True):
    """A compacted context; only the server that made the blob can read it."""

    encrypted_content: str


class ConfigurationUpdate(Struct, frozen=True):
    """A change of settings from here on."""

    reasoning: Raw | UnsetType = UNSET
    text: Raw | UnsetType = UNSET
