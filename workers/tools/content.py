"""What an MCP tool returned, in what a chat model accepts: text and images."""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import re
from typing import TYPE_CHECKING, Any

import orjson

from workers.tools.sameness import says, says_nothing
from workers.tools.toolbox import ToolResult

if TYPE_CHECKING:  # importing mcp takes 0.4 s and 45 MiB: only what connects pays that
    from mcp_types import BlobResourceContents, CallToolResult, ContentBlock

MAX_TEXT_CHARS = 200_000  # of one result; about 50,000 tokens
MAX_IMAGE_CHARS = 8 * 1024 * 1024  # of one result's images together, as base64
MAX_URI_CHARS = 2_000
NOTHING = "(the tool returned nothing)"
LINKS = "[What a link leads to is not part of this result.]"
NUL_SHOWN = "\N{SYMBOL FOR NULL}"  # stores and providers refuse the character itself

_IMAGE_TYPE = re.compile(r"image/[a-z0-9.+-]+", re.IGNORECASE)
_DRAWING = "image/svg+xml"  # a text; providers take no such image
_TEXT_TYPE = re.compile(
    r"text/.*|application/(.+\+)?(json|xml|yaml|x-yaml|toml|javascript|ecmascript|typescript|x-sh|sql|csv|x-ndjson)|"
    r".*\+(json|xml|yaml)",
    re.IGNORECASE,
)
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*\"?([\w.:-]+)", re.IGNORECASE)


def to_tool_result(result: CallToolResult) -> ToolResult:
    """The content of a result, in order. What does not fit, or is no text or image, is said in words."""
    shown = _Shown()
    for block in result.content:
        shown.add(block)
    structured = result.structured_content
    if says_nothing(shown.own, structured) and not shown.images:
        shown.texts = [text for text in shown.texts if text not in shown.own]
    elif structured is not None and not says(shown.own, structured):
        shown.texts.append(as_json(structured))
    text = shorten("\n".join(text for text in shown.texts if text), MAX_TEXT_CHARS)
    return ToolResult(
        text=clean(text) or NOTHING,
        images=tuple(shown.images),
        outcome="tool_error" if result.is_error else "result",
    )


class _Shown:
    """A result so far."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.own: list[str] = []  # those of the tool
        self.images: list[str] = []  # data: URLs
        self._left = MAX_IMAGE_CHARS

    def add(self, block: ContentBlock) -> None:
        """One more block."""
        if block.type == "text":
            self._say(block.text)
        elif block.type == "image":
            self._show(block.data, block.mime_type)
        elif block.type == "resource_link":
            about = _described(block.uri, name=block.name, kind=block.mime_type, about=block.description)
            self.texts = [*(text for text in self.texts if text != LINKS), about, LINKS]
        elif block.type != "resource":
            self.texts.append(f"[{block.type} ({block.mime_type}) was left out: a chat model takes text and images]")
        elif hasattr(block.resource, "text"):
            self.texts.append(_described(block.resource.uri, kind=block.resource.mime_type))
            self._say(block.resource.text)
        else:
            self._unpack(block.resource)

    def _say(self, text: str) -> None:
        self.own.append(text)
        self.texts.append(text)

    def _show(self, data: str, mime_type: str) -> None:
        """A picture, or why it is none."""
        kind = mime_type.lower().partition(";")[0].strip()
        if kind == _DRAWING and (drawing := _text_of(data, mime_type)) is not None:
            self._say(drawing)
            return
        kind = "image/jpeg" if kind == "image/jpg" else kind
        data = _bare(data)
        why_not = _image_problem(data, kind, self._left)
        if why_not is None:
            self._left -= len(data)
            self.images.append(f"data:{kind};base64,{data}")
            self.texts.append(f"[image {len(self.images)}: {kind}]")
        else:
            self.texts.append(f"[an image ({mime_type}) was left out: {why_not}]")

    def _unpack(self, resource: BlobResourceContents) -> None:
        """A resource in base64: what it holds says its type, or the end of its name."""
        kind = resource.mime_type or mimetypes.guess_type(str(resource.uri))[0]
        head = _described(resource.uri, kind=resource.mime_type)
        if kind is not None and kind.lower().startswith("image/") and not kind.lower().startswith(_DRAWING):
            self.texts.append(head)
            self._show(resource.blob, kind)
        elif (text := _text_of(resource.blob, kind)) is not None:
            self.texts.append(head)
            self._say(text)
        else:
            size = len(resource.blob) * 3 // 4
            self.texts.append(f"{head} holds {size} bytes that are not text and were left out")


def shorten(text: str, limit: int) -> str:
    """The text, at most ``limit`` characters of it; what is missing is said."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut here: {len(text) - limit} of {len(text)} characters left out]"


def clean(text: str) -> str:
    """The text without what stores and providers refuse: NUL characters, halves of surrogate pairs."""
    text = text.replace("\0", NUL_SHOWN)
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def as_json(value: Any) -> str:
    """A JSON value as text, however long its integers are."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # integers of more than 64 bits, or halves of surrogate pairs
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _described(uri: str, *, name: str = "", kind: str | None = None, about: str | None = None) -> str:
    parts = (name, shorten(str(uri), MAX_URI_CHARS), f"({kind})" if kind else "", f"- {about}" if about else "")
    return "[resource] " + " ".join(part for part in parts if part)


def _bare(data: str) -> str:
    """Base64 without the line ends and the head of a data: URL that some servers leave in it."""
    data = data[head.end() :] if (head := _DATA_URL.match(data)) else data
    return "".join(data.split())


def _text_of(data: str, kind: str | None) -> str | None:
    """The text that base64 of this type holds; None where it holds none. Without a type it is what can be read."""
    if kind is not None and _TEXT_TYPE.fullmatch(kind.partition(";")[0].strip()) is None:
        return None
    found = _CHARSET.search(kind or "")
    try:
        text = base64.b64decode(_bare(data), validate=True).decode(found[1] if found else "utf-8-sig")
    except (ValueError, LookupError):  # no base64, no such text, or an unknown charset
        return None
    return text if kind is not None or "\0" not in text else None


def _image_problem(data: str, mime_type: str, budget: int) -> str | None:
    """Why a chat model cannot be given this image; a provider answers a broken one with HTTP 400."""
    if _IMAGE_TYPE.fullmatch(mime_type) is None:
        return "its type is no image type"
    if len(data) > budget:
        return f"{len(data)} characters of base64; a result may hold {MAX_IMAGE_CHARS}"
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return "it is not base64"
    return None if decoded else "it is empty"
