from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from workers.tools import content
from workers.tools.content import to_tool_result
from workers.tools.toolbox import ToolResult

PIXEL = base64.b64encode(b"a picture").decode()


def result(*blocks: ContentBlock, structured: Any = None, is_error: bool = False) -> ToolResult:
    return to_tool_result(CallToolResult(content=list(blocks), structured_content=structured, is_error=is_error))


def text(words: str) -> TextContent:
    return TextContent(text=words)


def image(data: str = PIXEL, mime_type: str = "image/png") -> ImageContent:
    return ImageContent(data=data, mime_type=mime_type)


def test_texts_stand_in_their_order() -> None:
    assert result(text("one"), text("two")) == ToolResult(text="one\ntwo")


def test_an_error_of_the_tool_is_one_for_the_model() -> None:
    assert result(text("no such file"), is_error=True) == ToolResult(text="no such file", outcome="tool_error")


def test_nothing_is_said_in_words() -> None:
    assert result().text == "(the tool returned nothing)"


def test_an_image_is_given_as_data() -> None:
    given = result(text("look"), image())

    assert given.images == (f"data:image/png;base64,{PIXEL}",)
    assert given.text == "look\n[image 1: image/png]"


@pytest.mark.parametrize("broken", [image("%%%"), image(""), image(mime_type="text/html")])
def test_an_image_that_a_provider_would_refuse_is_left_out_in_words(broken: ImageContent) -> None:
    given = result(broken)

    assert given.images == ()
    assert "left out" in given.text


def test_images_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_IMAGE_CHARS", len(PIXEL))

    given = result(image(), image())

    assert len(given.images) == 1
    assert "left out" in given.text


def test_a_long_text_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_TEXT_CHARS", 10)

    assert result(text("x" * 30)).text == "xxxxxxxxxx\n[cut here: 20 of 30 characters left out]"


def test_structured_content_that_no_text_says_is_given_as_json() -> None:
    assert result(structured={"sum": 3}).text == '{"sum":3}'
    assert result(text("done"), structured={"sum": 3}).text == 'done\n{"sum":3}'


@pytest.mark.parametrize(
    ("texts", "structured"),
    [
        (['{"sum": 3}'], {"sum": 3}),
        (["3"], {"result": 3}),
        (["hello"], {"content": "hello"}),
        (["1", "2"], {"result": [1, 2]}),
        (["True"], {"result": True}),
    ],
)
def test_structured_content_that_the_text_says_already_is_not_repeated(texts: list[str], structured: Any) -> None:
    assert result(*map(text, texts), structured=structured).text == "\n".join(texts)


def test_resources_and_sound_are_said_in_words() -> None:
    link = ResourceLink(name="notes", uri="file:///notes.md", description="What was said", mime_type="text/markdown")
    embedded = EmbeddedResource(resource=TextResourceContents(uri="file:///a.txt", text="inside"))
    blob = EmbeddedResource(resource=BlobResourceContents(uri="file:///a.zip", blob="QUJD"))
    sound = AudioContent(data="QUJD", mime_type="audio/wav")

    assert result(link).text == "[resource] notes file:///notes.md (text/markdown) - What was said"
    assert result(embedded).text == "[resource] file:///a.txt\ninside"
    assert result(blob).text == "[resource] file:///a.zip holds 3 bytes that are not text and were left out"
    assert result(sound).text == "[audio (audio/wav) was left out: a chat model takes text and images]"
