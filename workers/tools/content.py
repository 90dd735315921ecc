"""What an MCP tool returned, in what a chat model accepts: text and images."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson

from workers.tools.toolbox import ToolResult

if TYPE_CHECKING:  # importing mcp takes 0.4 s and 45 MiB: only what connects pays that
    from mcp_types import CallToolResult, ContentBlock

MAX_TEXT_CHARS = 200_000  # of one result; about 50,000 tokens
MAX_IMAGE_CHARS = 8 * 1024 * 1024  # of one result's images together, as base64
MAX_URI_CHARS = 2_000

_IMAGE_TYPE = re.compile(r"image/[a-z0-9.+-]+", re.IGNORECASE)


def to_tool_result(result: CallToolResult) -> ToolResult:
    """The content of a result, in order. What does not fit, or is no text or image, is said in words."""
    texts: list[str] = []
    images: list[str] = []
    budget = MAX_IMAGE_CHARS
    for block in result.content:
        if block.type == "image":
            why_not = _image_problem(block.data, block.mime_type, budget)
            if why_not is None:
                budget -= len(block.data)
                images.append(f"data:{block.mime_type};base64,{block.data}")
                texts.append(f"[image {len(images)}: {block.mime_type}]")
            else:
                texts.append(f"[an image ({block.mime_type}) was left out: {why_not}]")
        else:
            texts.append(_in_words(block))
    if result.structured_content is not None and not _says(result.content, result.structured_content):
        texts.append(_as_json(result.structured_content))
    text = cut("\n".join(text for text in texts if text), MAX_TEXT_CHARS)
    return ToolResult(
        text=text or "(the tool returned nothing)",
        images=tuple(images),
        outcome="tool_error" if result.is_error else "result",
    )


def cut(text: str, limit: int) -> str:
    """The text, at most ``limit`` characters of it; what is missing is said."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[cut here: {len(text) - limit} of {len(text)} characters left out]"


def _in_words(block: ContentBlock) -> str:
    if block.type == "text":
        return block.text
    if block.type == "resource_link":
        return _described("resource", block.uri, name=block.name, kind=block.mime_type, about=block.description)
    if block.type == "resource":
        resource = block.resource
        head = _described("resource", resource.uri, kind=resource.mime_type)
        if hasattr(resource, "text"):
            return f"{head}\n{resource.text}"
        return f"{head} holds {len(resource.blob) * 3 // 4} bytes that are not text and were left out"
    return f"[{block.type} ({block.mime_type}) was left out: a chat model takes text and images]"


def _described(what: str, uri: str, *, name: str = "", kind: str | None = None, about: str | None = None) -> str:
    parts = (name, cut(str(uri), MAX_URI_CHARS), f"({kind})" if kind else "", f"- {about}" if about else "")
    return f"[{what}] " + " ".join(part for part in parts if part)


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


def _says(content: Iterable[ContentBlock], structured: dict[str, Any]) -> bool:
    """Whether the text says what the structured content says; the specification asks servers to put it there too.

    A value that is no object is wrapped in one with a single key (``result``, ``content``); a list may be one text for
    each item.
    """
    values = list(_values(content))
    said = [*values, values] if values else []
    inner = next(iter(structured.values())) if len(structured) == 1 else structured
    return any(value in (structured, inner) or value == str(inner) for value in said)


def _values(content: Iterable[ContentBlock]) -> Iterator[Any]:
    """Each text as the JSON value it is, or as it stands."""
    for block in content:
        if block.type == "text":
            try:
                yield orjson.loads(block.text)
            except orjson.JSONDecodeError:
                yield block.text


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # lone surrogates, or integers of more than 64 bits
        return str(value)
