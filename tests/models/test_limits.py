"""What a refusal teaches of a model, and what it is sent from then on."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from fakes.offers import offer_of
from hypothesis import given
from hypothesis import strategies as st

from workers.models.cause import Cause
from workers.models.failure import Words, words_of_error
from workers.models.limits import (
    DESCRIPTION_CHARS,
    ModelLimits,
    advice_about,
    limits_learned,
    offered,
    plain_schema,
    tools_meant,
    within,
)
from workers.models.offer import CLIENT, Offer, offer
from workers.models.provider import ModelRequest
from workers.models.target import target_of
from workers.turns import PastTurn

HELLO = b'{"role":"user","content":"Hello"}'


def said(message: str, **others: Any) -> Words:
    return words_of_error({"error": {"message": message, **others}})


def tool(name: str, description: str = "d", parameters: Any = None) -> dict[str, Any]:
    function = {"name": f"mcp__odd__{name}", "description": description, "parameters": parameters or {"type": "object"}}
    return {"type": "function", "function": function}


def request(tools: Offer, **parameters: Any) -> ModelRequest:
    return ModelRequest(messages=[HELLO], tools=tools, parameters=parameters)


def lesson(
    words: Words, tools: Offer, *, cause: Cause = Cause.TOOLS, limits: ModelLimits | None = None, **parameters: Any
) -> ModelLimits | None:
    known = limits or ModelLimits()
    found = limits_learned(known, cause, words, within(known, request(tools, **parameters)))
    return None if found is None else found.limits


def names_of(tools: Offer) -> list[str]:
    return [each["function"]["name"] for each in orjson.loads(tools.joined or b"[]")]


FEW = offer_of([tool("a"), tool("b", "x" * 3000), tool("c")], "odd")
MANY = offer_of([tool(f"t{n:03}") for n in range(200)], "odd")


# -- descriptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "bound"),
    [
        (
            said(
                "Invalid 'tools[1].function.description': string too long. Expected a string with maximum length 1024, "
                "but got a string with length 3000 instead.",
                code="string_above_max_length",
                param="tools[1].function.description",
            ),
            1024,
        ),
        (said("tools.1.custom.description: String should have at most 2000 characters"), 2000),
        (said("the description of a function is too long", param="tools[1].function.description"), DESCRIPTION_CHARS),
    ],
)
def test_a_description_that_is_too_long_is_cut_for_this_model(words: Words, bound: int) -> None:
    limits = lesson(words, FEW)

    assert limits == ModelLimits(description_chars=bound)
    cut = offered(limits, FEW)
    lengths = [len(each["function"]["description"]) for each in orjson.loads(cut.joined)]
    assert lengths == [1, bound, 1]
    assert [each.description_chars for each in cut.tools] == lengths
    assert FEW.tools[1].description_chars == 3000


# -- how many ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        said("tools: 200 given, at most 128", code="array_above_max_length", param="tools"),
        said("Invalid 'tools': array too long. Expected maximum length 128, but got an array with length 200 instead."),
        said("'tools' : maximum number of items is 128"),
        said("Too many tools: the limit is 128"),
        said("too many functions"),
    ],
)
def test_of_too_many_tools_the_first_ones_are_kept(words: Words) -> None:
    limits = lesson(words, MANY)

    assert limits == ModelLimits(tools=128)
    assert names_of(offered(limits, MANY)) == [f"mcp__odd__t{n:03}" for n in range(128)]


def test_the_log_says_which_tools_are_left_out_and_how_others_are_chosen() -> None:
    found = limits_learned(ModelLimits(), Cause.TOOLS, said("at most 128 tools", param="tools"), request(MANY))

    assert found is not None
    assert "odd/mcp__odd__t128" in found.said
    assert "67 more" in found.said
    assert "mcp_servers.<server>.tools.include" in found.said


# -- a single one --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        said("null where an array belongs", param="tools[1].function.parameters", code="invalid_function_parameters"),
        said("Invalid schema for function 'mcp__odd__b': None is not of type 'array'."),
        said("tools.1.custom.input_schema: JSON schema is invalid"),
        said("* GenerateContentRequest.tools[0].function_declarations[1].parameters.properties: missing field"),
    ],
)
def test_a_tool_that_is_refused_is_left_out_alone_and_named(words: Words) -> None:
    limits = lesson(words, FEW)

    assert limits is not None
    assert names_of(offered(limits, FEW)) == ["mcp__odd__a", "mcp__odd__c"]
    assert [each.tool for each in tools_meant(words, FEW)] == ["mcp__odd__b"]
    assert "mcp_servers.odd.tools.exclude: [mcp__odd__b]" in advice_about(words, FEW)


CLIENTS = offer_of([tool("mine"), tool("other")], CLIENT)
BOTH = offer((*FEW.tools, *CLIENTS.tools))


def test_a_clients_tool_that_is_refused_is_left_out_of_this_request_alone() -> None:
    refusal = said("Invalid schema for function 'mcp__odd__mine'", param="tools[3].function.parameters")

    found = limits_learned(ModelLimits(), Cause.TOOLS, refusal, request(BOTH))

    assert found is not None
    assert not found.lasting
    assert "mcp__odd__mine" not in names_of(within(found.limits, request(BOTH)).tools)
    assert advice_about(refusal, BOTH).endswith("leave it out with `tools` without mcp__odd__mine")


def test_of_too_many_tools_the_clients_are_kept() -> None:
    both = offer((*MANY.tools, *CLIENTS.tools))

    kept = names_of(within(ModelLimits(tools=3), request(both)).tools)

    assert kept == ["mcp__odd__t000", "mcp__odd__mine", "mcp__odd__other"]


CHOSEN = {"type": "function", "function": {"name": "mcp__odd__a"}}


@pytest.mark.parametrize(
    ("limits", "choice", "kept"),
    [
        (ModelLimits(), CHOSEN, {"tool_choice": CHOSEN, "parallel_tool_calls": False}),
        (ModelLimits(refused=frozenset({"mcp__odd__a"})), CHOSEN, {"parallel_tool_calls": False}),
        (
            ModelLimits(refused=frozenset({"mcp__odd__a"})),
            "required",
            {"tool_choice": "required", "parallel_tool_calls": False},
        ),
        (ModelLimits(tools=0), "required", {}),
    ],
)
def test_no_choice_is_sent_among_tools_that_are_not(limits: ModelLimits, choice: Any, kept: dict[str, Any]) -> None:
    asked = request(FEW, tool_choice=choice, parallel_tool_calls=False)

    assert within(limits, asked).parameters == kept


def test_a_name_that_begins_like_another_does_not_mean_it() -> None:
    tools = offer_of([tool("get"), tool("get_all")], "odd")

    assert [each.tool for each in tools_meant(said("function 'mcp__odd__get_all' is odd"), tools)] == [
        "mcp__odd__get_all"
    ]


# -- schemas, and none at all --------------------------------------------------------------------------------------


def test_where_no_tool_is_named_all_are_sent_in_their_plainest_form_and_then_none() -> None:
    odd = {"type": "object", "properties": {"a": True, "b": {"type": "foo", "$ref": "#"}}, "required": ["a", "z"]}
    tools = offer_of([tool("a"), tool("b", parameters=odd)], "odd")
    words = said("JSON schema conversion failed:\nUnrecognized schema: true")

    limits = lesson(words, tools)
    assert limits == ModelLimits(plain_schemas=True)
    plain = orjson.loads(offered(limits, tools).joined)[1]["function"]["parameters"]
    assert plain == {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a"]}

    assert lesson(words, tools, limits=limits) == ModelLimits(plain_schemas=True, tools=0)
    assert offered(ModelLimits(tools=0), tools).joined == b""


@pytest.mark.parametrize(
    "words",
    [
        said('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        said("registry.ollama.ai/library/m does not support tools"),
        said("No endpoints found that support tool use."),
        said("tools param requires --jinja flag"),
    ],
)
def test_a_model_that_takes_no_tools_is_asked_without_them(words: Words) -> None:
    assert lesson(words, FEW) == ModelLimits(tools=0)


def test_a_request_without_tools_teaches_nothing_of_tools() -> None:
    assert lesson(said("does not support tools"), Offer()) is None


def passage(*rows: bytes) -> PastTurn:
    return PastTurn(turn_id="t", state="completed", rows=rows)


# -- pictures, answers, shapes -------------------------------------------------------------------------------------


def test_a_model_without_eyes_gets_a_line_in_place_of_pictures() -> None:
    words = said("not a multimodal model")
    row = orjson.dumps(
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://e.com/a.png"}}]}
    )
    for asked in (ModelRequest(messages=[row]), ModelRequest(messages=[HELLO], past=[passage(row)])):
        found = limits_learned(ModelLimits(), Cause.PICTURE, words, asked)

        assert found is not None
        assert found.limits == ModelLimits(vision=False)
        assert target_of(found.limits, provider="p", model="m").vision is False
        assert limits_learned(found.limits, Cause.PICTURE, words, asked) is None


@pytest.mark.parametrize("words", [said("not a multimodal model"), said("messages[1].content must be a string")])
def test_nothing_is_learned_of_pictures_where_none_was_sent(words: Words) -> None:
    limits = lesson(words, Offer(), cause=Cause.PICTURE)

    assert limits is None or limits.vision is None


@pytest.mark.parametrize(
    ("words", "bound"),
    [
        (said("max_tokens is too large: 9000. This model supports at most 4096 completion tokens"), 4096),
        (said("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"), 8192),
        (said("max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens"), 8192),
        (said("'max_tokens' is too large: 9000. maximum context length is 2048 tokens (9000 > 2048 - 100)"), 1948),
    ],
)
def test_an_answer_may_be_as_long_as_the_model_takes(words: Words, bound: int) -> None:
    limits = lesson(words, Offer(), cause=Cause.REQUEST, max_tokens=9000)

    assert limits == ModelLimits(answer_tokens=bound)
    sent = within(limits, request(Offer(), max_tokens=9000, temperature=1)).parameters
    assert sent == {"max_tokens": bound, "temperature": 1}
    assert lesson(words, Offer(), cause=Cause.REQUEST) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Function call is missing a thought_signature in functionCall parts.", "takes_bare_calls"),
        ("Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9.", "takes_long_ids"),
        ("Conversation roles must alternate user/assistant/user/assistant/...", "takes_repeated_roles"),
        ("property 'reasoning_content' is unsupported", "takes_attached"),
        ("Invalid 'messages[3].tool_calls[0].id': string too long, maximum length 40", "takes_long_ids"),
        ("System role not supported", "takes_system"),
        ("Developer instruction is not enabled for models/gemma-3-27b-it", "takes_system"),
        ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", "takes_system"),
        ("messages.0.user.name: Extra inputs are not permitted", "takes_names"),
        ("'messages.1' : property 'name' is unsupported", "takes_names"),
        ("Unknown field: name", "takes_names"),
        ("Invalid value for 'content': expected a string, got null.", "takes_null_content"),
        ("messages[1].content must be a string", "takes_null_content"),
        ('can only concatenate str (not "NoneType") to str', "takes_null_content"),
        ("Unrecognized request argument supplied: stream_options", "takes_stream_options"),
        ("stream_options: Extra inputs are not permitted", "takes_stream_options"),
        ("the content of message 2 must not be empty", "takes_null_content"),
    ],
)
def test_what_a_model_refuses_in_messages_is_written_otherwise_for_it(text: str, name: str) -> None:
    limits = lesson(said(text), Offer(), cause=Cause.REQUEST)

    assert limits is not None
    assert getattr(target_of(limits, provider="p", model="m"), name) is False
    assert lesson(said(text), Offer(), cause=Cause.REQUEST, limits=limits) is None


@pytest.mark.parametrize(
    "text",
    [
        "The model name is not supported",
        "Extra inputs are not permitted",
        "Unsupported parameter: 'temperature'",
        "the message must be shorter",
        "Unexpected role 'user' after role 'tool'",
    ],
)
def test_other_refusals_teach_nothing_of_messages(text: str) -> None:
    assert lesson(said(text), Offer(), cause=Cause.REQUEST) is None


def test_a_bound_for_the_answer_is_sent_under_the_name_that_the_model_takes() -> None:
    words = said(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    limits = lesson(words, Offer(), cause=Cause.REQUEST, max_tokens=100)

    assert limits is not None
    assert within(limits, request(Offer(), max_tokens=100, top_p=1)).parameters == {
        "max_completion_tokens": 100,
        "top_p": 1,
    }
    kept = request(Offer(), max_completion_tokens=100)
    assert within(limits, kept) is kept
    assert lesson(words, Offer(), cause=Cause.REQUEST, limits=limits) is None


# -- for every refusal ---------------------------------------------------------------------------------------------

WORDS = st.builds(
    said,
    st.sampled_from(
        [
            "tools[0].function.description maximum length 10",
            "tools[2].function.parameters",
            "at most 2 tools",
            "Unrecognized schema",
            "does not support tools",
            "no",
        ]
    ),
    param=st.sampled_from(["", "tools", "tools[1]", "tools[1].function.description"]),
)


@given(st.lists(WORDS, min_size=1, max_size=40), st.integers(1, 5))
def test_lessons_about_tools_come_to_an_end_and_never_make_more_of_them(refusals: list[Words], number: int) -> None:
    tools = offer_of([tool(f"t{n}", "x" * 20) for n in range(number)], "odd")
    limits, lessons = ModelLimits(), 0
    for words in refusals:
        before = offered(limits, tools)
        found = limits_learned(limits, Cause.TOOLS, words, within(limits, request(tools)))
        assert (found is None) is (not before.tools)
        if found is None:
            return
        lessons += 1
        after = offered(found.limits, tools)
        assert found.limits != limits
        assert len(after.tools) <= len(before.tools)
        limits = found.limits
    assert lessons <= 2 * number + 4  # each tool, each number, the descriptions, the schemas, none at all


KEYS = st.sampled_from(["type", "enum", "items", "properties", "required", "anyOf", "description", "x"])
SCHEMAS = st.recursive(
    st.none() | st.booleans() | st.sampled_from(["string", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(SCHEMAS)
def test_a_plain_schema_has_nothing_else_and_is_its_own_plain_form(schema: Any) -> None:
    plain = plain_schema(schema)

    assert set(plain) <= {"type", "description", "enum", "items", "properties", "required"}
    assert plain_schema(plain) == plain


def test_of_several_types_the_first_is_the_plain_one() -> None:
    assert plain_schema({"type": ["null", "string"], "anyOf": []}) == {"type": "string"}
