"""What a message says, purely: one text where it can be, else parts of the kinds that models take."""

from __future__ import annotations

from typing import Any

import orjson

NO_PICTURE = "[picture left out: this model takes none]"
PICTURE_ELSEWHERE = "[picture left out: only a message of the user carries one]"
PICTURE_WITHOUT_URL = "[picture left out: it has no URL]"


def is_blank(content: Any) -> bool:
    """Whether a content says nothing."""
    return not content or (isinstance(content, str) and not content.strip())


def text_of(content: Any) -> str:
    """The text in a chat message's content, whichever of its forms it has; other kinds of parts are passed over."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(text for part in content if (text := _text_in(part)) is not None)
    return ""


def told(content: Any) -> str:
    """All of a content as one text: a line stands for each picture, and for each part of a kind that no model takes."""
    plain = content_for(content, vision=False, no_picture=PICTURE_ELSEWHERE)
    assert isinstance(plain, str)
    return plain


def content_for(content: Any, *, vision: bool, no_picture: str = NO_PICTURE) -> str | list[dict[str, Any]]:
    """The content of a user message: a text where all of it is text, else a list of text and picture parts.

    Args:
        content: as it came, of any shape.
        vision: pictures are kept.
        no_picture: what stands in the place of one that is not.
    """
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, list):
        return orjson.dumps(content).decode()
    parts = [_part(part, vision=vision, no_picture=no_picture) for part in content]
    if any(not isinstance(part, str) for part in parts):
        return [_text_part(part) if isinstance(part, str) else part for part in parts if not is_blank(part)]
    return "\n".join(part for part in parts if isinstance(part, str) and part)


def _part(part: Any, *, vision: bool, no_picture: str) -> str | dict[str, Any]:
    if (text := _text_in(part)) is not None:
        return text
    if not isinstance(part, dict):
        return orjson.dumps(part).decode()
    if part.get("type") != "image_url":
        return f"[left out: a part of the kind {str(part.get('type'))[:40]}]"
    if not vision:
        return no_picture
    image = part.get("image_url")
    if isinstance(image, str):
        image = {"url": image}
    if not isinstance(image, dict) or not isinstance(image.get("url"), str):
        return PICTURE_WITHOUT_URL
    return {"type": "image_url", "image_url": image}


def _text_in(part: Any) -> str | None:
    """The text of a part that is one."""
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and part.get("type", "text") in ("text", "input_text", "output_text", "refusal"):
        text = part.get("refusal") if part.get("type") == "refusal" else part.get("text")
        return text if isinstance(text, str) else ""
    return None


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
