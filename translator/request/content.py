"""Content parts: the content of messages and call outputs as chat content.

Content that is only text is sent as one string, which every upstream accepts; content with an
image, a file or audio is sent as parts.

An image that the model cannot see becomes a placeholder, or a description of it where the caller
has one. Making descriptions is the caller's business: those that are missing are listed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import assert_never

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from translator.common.pauses import Pause, no_pause, paced
from translator.dialects import Dialect
from translator.wire import chat, items
from translator.wire.errors import InvalidRequest
from translator.wire.json_values import is_data_url, is_string
from translator.wire.notices import Notice

IMAGE_ATTACHED = "[image attached below]"
"""Replaces an image in a call output, which holds text only; a user message with it follows."""

IMAGE_OMITTED = "[image omitted: the model takes text only]"
"""Replaces an image that the model cannot see."""

DESCRIBED = "[image, described by another model:]\n{}\n[end of the description]"
"""Replaces an image that the model cannot see, and another one has described."""

MAX_WORDS = 2000
"""How much of what the user says goes with an image that is to be described, in characters."""

_TEXT_ENDINGS = (
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml",
    ".ini", ".cfg", ".log", ".html", ".css", ".js", ".ts", ".tsx", ".jsx", ".py", ".rs", ".go",
    ".c", ".h", ".cpp", ".hpp", ".java", ".kt", ".rb", ".php", ".sh", ".sql", ".diff", ".patch",
)  # fmt: skip

_DETAILS = {"low": "low", "high": "high", "auto": "auto", "original": "high"}


class UndescribedImage(Struct, frozen=True):
    """An image that the model cannot see, and of which there is no description.

    `digest` is the SHA-256 of its URL in UTF-8, in hexadecimal digits; `url` is that URL, often a
    data URL of megabytes; `detail` is what the client asks for ("low", "high", …); `path` is its
    path in the request. `words` are the user's beside it, or the latest ones before it.
    """

    digest: str
    url: str
    detail: str | None
    path: str
    words: str


class ContentWriter:
    """Writes content for one dialect and model; collects notices of losses.

    `descriptions` are texts of images by digest, for a model that sees none; `undescribed` collects
    the images that are not among them. None: images are just left out. `pause` is called between
    parts.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        vision: bool,
        descriptions: Mapping[str, str] | None = None,
        pause: Pause = no_pause,
    ) -> None:
        self._dialect = dialect
        self._pause = pause
        self._images = vision and dialect.images
        self._descriptions = None if self._images else descriptions
        self._words = ""  # of the user, beside an image
        self.notices: list[Notice] = []
        self.undescribed: list[UndescribedImage] = []

    def text(self, content: items.Content, path: str) -> str:
        """Content that must be text, as in system messages."""
        written = self._written(content, path)
        if isinstance(written, str):
            return written
        is_text = [isinstance(part, chat.TextPart) for part in written]
        raise InvalidRequest(
            "Only text is supported here.",
            param=f"{path}[{is_text.index(False)}]",
            code="invalid_value",
        )

    def user(self, content: items.Content, path: str) -> str | list[chat.Part]:
        """Content of a user message."""
        if self._descriptions is not None:
            self._words = _words(content) or self._words
        return self._written(content, path)

    def assistant(self, content: items.Content, path: str) -> tuple[str | None, str | None]:
        """Text and refusal of the assistant's message at `path`, None where empty."""
        if isinstance(content, str):
            return content or None, None
        texts: list[str] = []
        refusals: list[str] = []
        for index, part in enumerate(paced(content or [], self._pause)):
            if type(part) is items.EchoedText:  # as nearly all are
                texts.append(part.text)
            elif isinstance(part, items.OutputRefusal):
                refusals.append(part.refusal)
            else:
                where = f"{path}.content"
                written = self._part(part, where, index)
                if not isinstance(written, chat.TextPart):
                    raise InvalidRequest(
                        "An assistant message contains only text.",
                        param=f"{where}[{index}]",
                        code="invalid_value",
                    )
                texts.append(written.text)
        return "".join(texts) or None, "".join(refusals) or None

    def result(self, content: items.Content | Raw, path: str) -> tuple[str | Raw, list[chat.Part]]:
        """The text of the output of the item at `path`; the parts that follow as the user's."""
        if type(content) is Raw or isinstance(content, str):
            return content, []
        parts = self._parts(content or (), f"{path}.output")
        attached: list[chat.Part] = []
        lines: list[str] = []
        for part in paced(parts, self._pause):
            if isinstance(part, chat.TextPart):
                lines.append(part.text)
            else:
                lines.append(IMAGE_ATTACHED)
                attached.append(part)
        return "\n".join(lines), attached

    def _written(self, content: items.Content, path: str) -> str | list[chat.Part]:
        """Content as one text where it is only text, as nearly all is; else as parts."""
        if isinstance(content, str):
            return content
        given = content or ()
        texts = [part.text for part in paced(given, self._pause) if type(part) is items.InputText]
        if len(texts) == len(given):
            return "\n".join(texts)
        parts = self._parts(given, path)
        texts = [part.text for part in paced(parts, self._pause) if isinstance(part, chat.TextPart)]
        return "\n".join(texts) if len(texts) == len(parts) else parts

    def _parts(self, given: Sequence[str | items.InputPart], path: str) -> list[chat.Part]:
        parts = enumerate(paced(given, self._pause))
        return [self._part(part, path, index) for index, part in parts]

    def _part(self, part: str | items.InputPart, path: str, index: int) -> chat.Part:
        match part:
            case str():
                return chat.TextPart(part)
            case (
                items.InputText()
                | items.EchoedText()
                | items.PlainText()
                | items.SummaryText()
                | items.ReasoningText()
            ):
                return chat.TextPart(part.text)
            case items.OutputRefusal():
                return chat.TextPart(part.refusal)
            case items.EncryptedContent():
                return chat.TextPart(part.encrypted_content)
            case items.InputImage():
                return self._image(part, f"{path}[{index}]")
            case items.InputFile():
                return self._file(part, f"{path}[{index}]")
            case items.InputAudio():
                return chat.AudioPart(
                    chat.AudioBody(part.input_audio.data, part.input_audio.format)
                )
            case _ as never:
                assert_never(never)

    def _image(self, image: items.InputImage, path: str) -> chat.Part:
        if not self._images:
            return chat.TextPart(self._unseen(image, path))
        url = image.image_url
        if isinstance(url, UnsetType) or not is_string(url):
            field = "file_id" if image.file_id else "image_url"
            reason = (
                "Files are not stored here; send the image as a URL or data URL."
                if image.file_id
                else "An image needs a URL or data URL, as a string."
            )
            raise InvalidRequest(reason, param=f"{path}.{field}", code="invalid_value")
        if not self._dialect.image_urls and not is_data_url(url):
            self.notices.append(
                Notice(path, "image_omitted", "The upstream fetches no images; send a data URL.")
            )
            return chat.TextPart(IMAGE_OMITTED)
        detail = _DETAILS.get(image.detail or "")
        return chat.ImagePart(chat.ImageUrl(url, UNSET if detail is None else detail))

    def _unseen(self, image: items.InputImage, path: str) -> str:
        """The text in place of an image that the model cannot see."""
        url, descriptions = image.image_url, self._descriptions
        if descriptions is not None and not isinstance(url, UnsetType) and is_string(url):
            text = _unquoted(url)
            digest = hashlib.sha256(text).hexdigest()
            self._pause()
            try:
                description = descriptions[digest]
            except KeyError:
                self.undescribed.append(
                    UndescribedImage(digest, text.decode(), image.detail, path, self._words)
                )
            else:
                message = "The model accepts no images; another model has described it."
                self.notices.append(Notice(path, "image_described", message))
                return DESCRIBED.format(description)
        self.notices.append(
            Notice(path, "image_omitted", "The model accepts no images; sent as a placeholder.")
        )
        return IMAGE_OMITTED

    def _file(self, file: items.InputFile, path: str) -> chat.Part:
        if file.file_data is None:
            field = "file_url" if file.file_url else "file_id"
            raise InvalidRequest(
                "Files are neither stored nor fetched here; send the file inline, as file_data.",
                param=f"{path}.{field}",
                code="invalid_value",
            )
        if self._dialect.files:
            return chat.FilePart(chat.FileBody(file.file_data, file.filename or UNSET))
        text = _file_text(file.file_data, file.filename or "")
        if text is None:
            raise InvalidRequest(
                "The upstream accepts no files, and this one is not text.",
                param=f"{path}.file_data",
                code="unsupported_value",
            )
        name = f' name="{file.filename}"' if file.filename else ""
        return chat.TextPart(f"<file{name}>\n{text}\n</file>")


def _words(content: items.Content) -> str:
    """The text of a message, the end of it where it is long."""
    if isinstance(content, str):
        return content[-MAX_WORDS:]
    parts: Sequence[str | items.InputPart] = content or ()
    texts = [part if isinstance(part, str) else getattr(part, "text", "") for part in parts]
    return "\n".join(filter(None, texts))[-MAX_WORDS:]


def _unquoted(url: Raw) -> bytes:
    """The text of a raw JSON string, in UTF-8; most URLs have no escapes."""
    quoted = bytes(url)
    if b"\\" not in quoted:
        return quoted[1:-1]
    return msgspec.json.decode(quoted, type=str).encode()


def _file_text(data: str, filename: str) -> str | None:
    """The text of a file given as base64 or a data URL; None for a file that is not text."""
    head, comma, payload = data.partition(",")
    is_text = filename.lower().endswith(_TEXT_ENDINGS)
    if comma and head.startswith("data:"):
        media = head.removeprefix("data:").split(";", 1)[0]
        is_text = is_text or media.startswith("text/") or media.endswith(("json", "xml", "yaml"))
    else:
        payload = data
    if not is_text:
        return None
    try:
        return base64.b64decode(payload, validate=True).decode()
    except (binascii.Error, ValueError):
        return None
