from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from mcp.server import MCPServer
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
from workers.tools.sameness import says
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


BIG = 123456789012345678901234567890
ROWS = '{"rows": [1]}'


@pytest.mark.parametrize(
    ("texts", "structured"),
    [
        (["5", '{"a":1}'], {"result": ["5", {"a": 1}]}),
        (['{"sum": 3}'], {"sum": 3}),
        (["3"], {"result": 3}),
        (["hello"], {"content": "hello"}),
        (["hello\n"], {"result": "hello"}),
        (["1", "2"], {"result": [1, 2]}),
        (["True"], {"result": True}),
        (["NaN"], {"result": None}),
        # A text that is JSON itself, as a tool of the Python SDKs gives it that returns str.
        ([ROWS], {"result": ROWS}),
        (["42"], {"result": "42"}),
        (["[]"], {"result": "[]"}),
        (["true"], {"result": "true"}),
        (['"quoted"'], {"result": '"quoted"'}),
        ([ROWS, "7"], {"result": [ROWS, "7"]}),  # list[str]
        (['["{}", "7"]'], {"result": ["{}", "7"]}),  # list[str] of FastMCP, one text
        (["one", "two"], {"result": "one\ntwo"}),
        # An object that has the key itself, wrapped and not.
        (['{"result": {"result": "x"}}'], {"result": {"result": "x"}}),
        (['{"result": "x"}'], {"result": {"result": "x"}}),
        (['{"result": "x"}'], {"result": "x"}),
        ([str(BIG)], {"result": BIG}),
        ([f"[{BIG}]"], {"result": [BIG]}),
        (['{"b": [1, 2.0], "a": null}'], {"a": None, "b": [1, 2]}),
        (["{'a': None}"], {"result": {"a": None}}),
    ],
)
def test_structured_content_that_the_text_says_already_is_not_repeated(texts: list[str], structured: Any) -> None:
    assert result(*map(text, texts), structured=structured).text == "\n".join(texts)


@pytest.mark.parametrize(
    ("texts", "structured", "told"),
    [
        (["1"], {"result": True}, '1\n{"result":true}'),
        (["0"], {"result": [False]}, '0\n{"result":[false]}'),
        (["one"], {"result": ["one", "two"]}, 'one\n{"result":["one","two"]}'),
        (["2 rows"], {"rows": [1, BIG]}, f'2 rows\n{{"rows":[1,{BIG}]}}'),
        ([], {"result": []}, '{"result":[]}'),
        (["42"], {"result": "42", "unit": "m"}, '42\n{"result":"42","unit":"m"}'),
    ],
)
def test_structured_content_that_says_more_than_the_text_is_given_too(
    texts: list[str], structured: Any, told: str
) -> None:
    assert result(*map(text, texts), structured=structured).text == told


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text('ab1 "{', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["result", "a"]), inner, max_size=2),
    max_leaves=6,
)


@given(json_values)
def test_a_value_and_its_json_say_the_same_however_it_is_wrapped(value: Any) -> None:
    for written in (json.dumps(value), json.dumps(value, indent=2)):
        assert says([written], {"result": value})
        assert says([written], {"result": written})
    if isinstance(value, list) and value:
        assert says([json.dumps(item) for item in value], {"result": value})


@pytest.mark.parametrize("texts", [[], [""], ["null"], ["None"]])
def test_a_tool_that_returned_null_returned_nothing(texts: list[str]) -> None:
    assert result(*map(text, texts), structured={"result": None}).text == "(the tool returned nothing)"


def test_null_alone_is_nothing_and_a_word_is_a_word() -> None:
    assert result(text("null")).text == "(the tool returned nothing)"
    assert result(text("None")).text == "None"


def test_what_stores_refuse_is_shown_and_not_sent() -> None:
    assert result(text("a\0b")).text == "a\u2400b"
    assert result(structured={"a": "\0"}).text == '{"a":"\\u0000"}'


def blob(data: bytes | str, uri: str = "file:///a", mime_type: str | None = None) -> EmbeddedResource:
    encoded = data if isinstance(data, str) else base64.b64encode(data).decode()
    return EmbeddedResource(resource=BlobResourceContents(uri=uri, blob=encoded, mime_type=mime_type))


@pytest.mark.parametrize(
    "resource",
    [
        blob(b"a,b\n1,2", mime_type="text/csv"),
        blob(b"\xef\xbb\xbfa,b\n1,2", mime_type="text/csv; charset=utf-8"),
        blob("a,b\n1,2\n".encode("utf-16"), mime_type="text/csv;charset=utf-16"),
        blob(b"a,b\n1,2", mime_type="application/json"),
        blob(b"a,b\n1,2", mime_type="application/vnd.x+json"),
        blob(b"a,b\n1,2", uri="file:///rows.csv"),
        blob(b"a,b\n1,2"),
        blob("YSxi\nCjEs\nMg==\n", mime_type="text/csv"),
    ],
)
def test_text_in_base64_is_given_as_text(resource: EmbeddedResource) -> None:
    assert "a,b\n1,2" in result(resource).text


@pytest.mark.parametrize(
    "resource",
    [
        blob(PIXEL, mime_type="image/png"),
        blob(PIXEL, uri="file:///a.png"),
        blob(f"data:image/png;base64,{PIXEL}", mime_type="image/png"),
    ],
)
def test_a_picture_in_a_resource_is_a_picture(resource: EmbeddedResource) -> None:
    given = result(resource)

    assert given.images == (f"data:image/png;base64,{PIXEL}",)
    assert given.text.endswith("[image 1: image/png]")


@pytest.mark.parametrize(
    "resource",
    [
        blob(b"\x00\x01", mime_type="application/octet-stream"),
        blob(b"\x00\x01"),
        blob(b"\xff\xfe\xfd", mime_type="text/plain"),
        blob(b"abc", mime_type="text/plain; charset=none-such"),
        blob("no base64", mime_type="text/csv"),
    ],
)
def test_bytes_that_are_no_text_are_left_out_in_words(resource: EmbeddedResource) -> None:
    assert "bytes that are not text" in result(resource).text


def test_a_picture_of_another_spelling_is_shown_and_a_drawing_is_its_text() -> None:
    lines = PIXEL[:4] + "\n" + PIXEL[4:]
    drawing = base64.b64encode(b"<svg/>").decode()

    assert result(image(lines, "image/jpg")).images == (f"data:image/jpeg;base64,{PIXEL}",)
    assert result(image(drawing, "image/svg+xml")) == ToolResult(text="<svg/>")


def test_resources_and_sound_are_said_in_words() -> None:
    link = ResourceLink(name="notes", uri="file:///notes.md", description="What was said", mime_type="text/markdown")
    embedded = EmbeddedResource(resource=TextResourceContents(uri="file:///a.txt", text="inside"))
    blob = EmbeddedResource(resource=BlobResourceContents(uri="file:///a.zip", blob="QUJD"))
    sound = AudioContent(data="QUJD", mime_type="audio/wav")

    told = "[resource] notes file:///notes.md (text/markdown) - What was said"
    assert result(link).text == f"{told}\n{content.LINKS}"
    assert result(link, link).text == f"{told}\n{told}\n{content.LINKS}"
    assert result(embedded).text == "[resource] file:///a.txt\ninside"
    assert result(blob).text == "[resource] file:///a.zip holds 3 bytes that are not text and were left out"
    assert result(sound).text == "[audio (audio/wav) was left out: a chat model takes text and images]"


async def test_what_tools_of_the_sdk_return_reaches_the_model_once() -> None:
    server = MCPServer("typed")
    returned: dict[str, Any] = {"rows": ROWS, "number": "42", "empty": "[]", "word": "hello"}
    for name, value in returned.items():
        server.add_tool(typed(value, str), name=name)
    server.add_tool(typed([ROWS, "x"], list[str]), name="texts")
    server.add_tool(typed({"a": 1}, dict[str, Any]), name="object")
    server.add_tool(typed(BIG, int), name="big")
    server.add_tool(typed(None, None), name="nothing")

    async with Client(server) as client:
        names = [*returned, "texts", "object", "big", "nothing"]
        told = {name: to_tool_result(await client.call_tool(name)).text for name in names}

    given = returned | {"texts": f"{ROWS}\nx", "big": str(BIG), "nothing": content.NOTHING}
    assert orjson.loads(told.pop("object")) == {"a": 1}
    assert told == given


def typed(value: Any, kind: Any) -> Callable[[], Any]:
    """A tool that returns a value and says of which type."""

    def tool() -> Any:
        return value

    tool.__annotations__["return"] = kind
    return tool
