from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from fakes.mcp_counting import BOUND_S, Counting, call
from mcp_types import EmbeddedResource, PromptMessage, TextContent, TextResourceContents
from structlog.testing import capture_logs

from hermes_actors.config.model import McpServer, ToolFilter
from workers.tools import entry
from workers.tools.catalogue import ListedTool, catalogue
from workers.tools.introduction import MAX_INSTRUCTIONS_CHARS, Prompt, PromptArgument, instructions_for_model
from workers.tools.prompts import CONTINUE, asked, messages, signature, usage
from workers.tools.servers import ToolServers

Serve = Callable[..., ToolServers]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers start slowly on a busy machine."""
    monkeypatch.setattr(entry, "TURN_WAIT_S", BOUND_S)


SCRIPT = Path(__file__).parents[1] / "fakes/mcp_offering_server.py"
WEATHER = Prompt(
    name="weather",
    description="Ask for the weather.",
    arguments=(PromptArgument(name="city", required=True), PromptArgument(name="unit", description="C or F")),
)
both_eras = pytest.mark.parametrize("protocol", ["auto", "legacy"])


def offering(mode: str = "full", **settings: Any) -> McpServer:
    return McpServer(**{"command": sys.executable, "args": (str(SCRIPT), mode), "connect_timeout": BOUND_S, **settings})


# -- instructions -----------------------------------------------------------------------------------------------------


@both_eras
async def test_the_instructions_of_a_server_are_one_bounded_section_once_it_is_known(
    serve: Serve, protocol: str
) -> None:
    servers = serve(one=offering(protocol=protocol), two=offering(instructions=False))
    toolbox = servers.toolbox("a")
    before = toolbox.instructions
    await toolbox.definitions()

    told = toolbox.instructions

    assert before == ""
    head, *lines = told.splitlines()
    assert head == "The MCP server 'one' says of the use of its tools (mcp__one__…):"
    assert lines[0] == "> Call look first."
    assert told.endswith("…")
    assert "two" not in told
    assert len(told) < MAX_INSTRUCTIONS_CHARS + 100
    assert servers.toolbox("who comes later").instructions == told


@pytest.mark.parametrize(("text", "told"), [("", ""), (" \n ", ""), ("a\n\nb", "> a\n>\n> b")])
def test_instructions_are_quoted_line_by_line(text: str, told: str) -> None:
    assert instructions_for_model("s", text).partition("\n")[2] == told


# -- prompts ----------------------------------------------------------------------------------------------------------


@both_eras
async def test_a_prompt_gives_the_messages_of_its_server(serve: Serve, protocol: str) -> None:
    toolbox = serve(s=offering(protocol=protocol)).toolbox("a")

    plain = await toolbox.prompt("/mcp__s__plain")
    weather = await toolbox.prompt('/mcp__s__weather city="New York" unit=F')

    assert plain is not None
    assert weather is not None
    assert [orjson.loads(each) for each in plain.messages] == [{"role": "user", "content": "Say hello."}]
    assert [orjson.loads(each) for each in weather.messages] == [
        {"role": "user", "content": "Weather in New York?"},
        {"role": "assistant", "content": "In F: "},
        {"role": "user", "content": CONTINUE},
    ]
    assert toolbox.prompts == ("/mcp__s__plain", "/mcp__s__weather city=… [unit=…]", "/mcp__s__broken city=…")


@pytest.mark.parametrize("text", ["/mcp__s__gone", "/mcp__other__plain", "/mcp__s__", "/mcp__s__plainer x", "/mcp__"])
async def test_what_names_no_prompt_is_for_the_model(serve: Serve, text: str) -> None:
    assert await serve(s=offering()).toolbox("a").prompt(text) is None


async def test_a_prompt_without_what_it_needs_answers_how_to_ask_for_it(serve: Serve) -> None:
    toolbox = serve(s=offering()).toolbox("a")

    prompted = await toolbox.prompt("/mcp__s__weather")

    assert prompted is not None
    assert not prompted.failed
    assert prompted.answer.startswith("It needs city.\n\n/mcp__s__weather city=… [unit=…]\nAsk for the weather.")


async def test_a_prompt_that_fails_says_why_and_whether_it_may_pass_later(serve: Serve) -> None:
    toolbox = serve(s=offering(), dead=McpServer(command="false")).toolbox("a")

    broken = await toolbox.prompt("/mcp__s__broken Atlantis")
    away = await toolbox.prompt("/mcp__dead__plain")

    assert broken is not None
    assert (broken.failed, broken.may_pass) == (True, False)
    assert "MCP server 's'" in broken.answer
    assert away is not None
    assert (away.failed, away.may_pass) == (True, True)
    assert "MCP server 'dead'" in away.answer


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("Rome", {"city": "Rome"}),
        ("  New York, today  ", {"city": "New York, today"}),
        ("'New York'", {"city": "New York"}),
        ("city=Rome", {"city": "Rome"}),
        ("city='New York' unit=F", {"city": "New York", "unit": "F"}),
        ("unit= city=a=b", {"unit": "", "city": "a=b"}),
        ("x=1 in Rome", {"city": "x=1 in Rome"}),
        ("city=Rome please", {"city": "city=Rome please"}),
        ("rock 'n roll", {"city": "rock 'n roll"}),
        ("two\nlines", {"city": "two\nlines"}),
    ],
)
def test_a_text_is_the_first_argument_unless_it_is_pairs_of_known_names(text: str, arguments: dict[str, str]) -> None:
    assert asked(WEATHER, text).arguments == arguments
    assert not asked(WEATHER, text).problem


@pytest.mark.parametrize(
    ("prompt", "text", "problem"),
    [
        (WEATHER, "", "It needs city."),
        (WEATHER, "unit=F", "It needs city."),
        (WEATHER, "city=", "It needs city."),
        (Prompt(name="p"), "now", "It takes no arguments, and got 'now'."),
    ],
)
def test_wrong_arguments_are_said(prompt: Prompt, text: str, problem: str) -> None:
    assert asked(prompt, text).problem == problem


def test_the_usage_names_each_argument() -> None:
    assert signature("mcp__s__weather", WEATHER) == "/mcp__s__weather city=… [unit=…]"
    assert usage("mcp__s__weather", WEATHER).splitlines()[1:] == [
        "Ask for the weather.",
        "  city",
        "  unit (optional)  C or F",
    ]


def test_a_resource_in_a_prompt_is_told_with_its_name() -> None:
    resource = TextResourceContents(uri="note://one", mime_type="text/plain", text="inside")
    said = [
        PromptMessage(role="user", content=EmbeddedResource(type="resource", resource=resource)),
        PromptMessage(role="user", content=TextContent(type="text", text="Sum it up.")),
    ]

    first, second = map(orjson.loads, messages(said))

    assert first == {"role": "user", "content": "[resource] note://one (text/plain)\ninside"}
    assert second == {"role": "user", "content": "Sum it up."}


# -- resources --------------------------------------------------------------------------------------------------------


@both_eras
async def test_resources_are_two_tools_where_the_configuration_wants_them(serve: Serve, protocol: str) -> None:
    toolbox = serve(s=offering(resources=True, tools=ToolFilter(include=("look",)), protocol=protocol)).toolbox("a")
    offer = await toolbox.definitions()

    listed = await call(toolbox, "mcp__s__list_resources")
    one = await call(toolbox, "mcp__s__read_resource", uri="note://one")
    made = await call(toolbox, "mcp__s__read_resource", uri="note://of/me")
    picture = await call(toolbox, "mcp__s__read_resource", uri="note://picture")
    gone = await call(toolbox, "mcp__s__read_resource", uri="note://gone/at/all")

    assert [tool.tool for tool in offer.tools] == ["look", "list_resources", "read_resource"]
    assert listed.text.splitlines()[0] == "note://one one (text/plain) - The first note."
    assert "note://of/{name} of" in listed.text
    assert one.text == "[resource] note://one (text/plain)\nnote one"
    assert made.text.endswith("note of me")
    assert len(picture.images) == 1
    assert gone.outcome == "tool_error"
    assert (await call(toolbox, "mcp__s__read_resource")).text.endswith("'uri' is a required property")


async def test_no_tools_for_resources_are_offered_where_none_are_wanted_or_the_server_has_none(
    serve: Serve, counting: Counting
) -> None:
    offer = await serve(s=offering(), raw=counting.raw(resources=True)).toolbox("a").definitions()

    assert {tool.server for tool in offer.tools} == {"s", "raw"}
    assert "read_resource" not in [tool.tool for tool in offer.tools]


# -- what of the configuration has no effect --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "warnings"),
    [
        (ToolFilter(include=("get_time", "get_*")), ()),
        (ToolFilter(include=("get_tim",)), ("tools.include: no tool is named 'get_tim'; did you mean get_time?",)),
        (ToolFilter(include=("get_tmie*",)), ("tools.include: no tool is named 'get_tmie*'; did you mean get_time?",)),
        (ToolFilter(exclude=("zzz",)), ("tools.exclude: no tool is named 'zzz'",)),
    ],
)
def test_a_pattern_that_no_tool_fits_is_said_with_the_nearest_name(
    chosen: ToolFilter, warnings: tuple[str, ...]
) -> None:
    listed = [ListedTool(name=name, description=None, input_schema={}) for name in ("get_time", "convert_time")]

    assert catalogue("s", listed, chosen).warnings == warnings


# -- many tools -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "warned"), [(128, False), (129, True)])
def test_more_tools_than_some_providers_take_are_warned_of(tmp_path: Path, number: int, warned: bool) -> None:
    servers = ToolServers({}, {}, owner_mark="test:", home=tmp_path, logs=tmp_path)
    listed = [ListedTool(name=f"t{at}", description=None, input_schema={}) for at in range(number)]

    with capture_logs() as logged:
        servers._join([catalogue("s", listed, ToolFilter())])
        servers._join([catalogue("s", listed, ToolFilter())])

    assert [line["event"] for line in logged] == ["many tools offered"] * warned
