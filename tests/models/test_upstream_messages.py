"""The messages of a request: valid, whatever a transcript or a client's history holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from fakes.valid_request import problems

from workers.models.alternation import NOTHING_ANSWERED, NOTHING_SAID
from workers.models.calls import ANOTHER_RESULT, CALLS_ONLY, MAX_RAW_CHARS, NO_RESULT, NOTHING_RETURNED
from workers.models.content import NO_PICTURE, PICTURE_ELSEWHERE, PICTURE_WITHOUT_URL
from workers.models.messages import CALL_ELSEWHERE, EMPTY_MESSAGE, is_plain, upstream_messages
from workers.models.provider import ModelRequest
from workers.models.target import ModelTarget

Message = dict[str, Any]

HERE = ModelTarget(provider="here", model="one")
ELSEWHERE = ModelTarget(provider="there", model="one")
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def user(content: Any, **fields: Any) -> Message:
    return {"role": "user", "content": content, **fields}


def assistant(content: Any = None, *calls: Message, **fields: Any) -> Message:
    return {"role": "assistant", "content": content, **({"tool_calls": list(calls)} if calls else {}), **fields}


def call(call_id: Any = "a", arguments: Any = "{}", name: Any = "look", **fields: Any) -> Message:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **fields}


def result(call_id: Any = "a", content: Any = "seen") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


def made_here(message: Message) -> Message:
    return {**message, "made_by": {"provider": "here", "model": "one"}}


def sent(*messages: Message, target: ModelTarget = HERE, system: str = "") -> list[Message]:
    """The request's messages; made again of themselves they are the same."""
    rows = upstream_messages(ModelRequest(system=system, messages=[orjson.dumps(row) for row in messages]), target)
    assert upstream_messages(ModelRequest(messages=rows), target) == rows
    loaded: list[Message] = [orjson.loads(row) for row in rows]
    assert problems(loaded, vision=target.vision is not False) == []
    return loaded


def calls_in(messages: Sequence[Message]) -> list[Message]:
    return [call for message in messages for call in message.get("tool_calls", ())]


def results_in(messages: Sequence[Message]) -> list[str]:
    return [message["content"] for message in messages if message["role"] == "tool"]


# -- plain messages -----------------------------------------------------------------------------------------------


def test_valid_messages_go_as_they_are() -> None:
    messages = [
        user("hi"),
        assistant("let me look", call("a", '{"x": [1,  2]}'), call("b")),
        result("a"),
        result("b", "other"),
        user([{"type": "text", "text": "[pictures]"}, PICTURE], name="ann"),
        assistant("done"),
        user("thanks"),
    ]
    assert sent(*messages) == messages


@pytest.mark.parametrize(
    "text", ["hi", "\\", 'say "x"', '"', '\\"', "x\\\\", '{"role":"user"}', "ü", "\u00a0x", "\n x"]
)
@pytest.mark.parametrize("options", [0, orjson.OPT_SORT_KEYS])
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_plain_message_goes_byte_for_byte(role: str, options: int, text: str) -> None:
    row = orjson.dumps({"role": role, "content": text}, option=options)

    assert upstream_messages(ModelRequest(messages=[row]), HERE) == [row]


@pytest.mark.parametrize(
    "message",
    [
        user(""),
        user(" \n\u3000"),
        user("\u00a0"),
        user("x", name="a b"),
        user('"\\', name='"\\'),
        assistant("x", made_by={}),
        {"content": "x", "role": "system"},
        {"content": '","role":"user"}', "role": "tool"},
    ],
)
def test_what_is_more_than_role_and_text_gets_a_closer_look(message: Message) -> None:
    assert not is_plain(orjson.dumps(message))
    assert not is_plain(orjson.dumps(message, option=orjson.OPT_SORT_KEYS))


# -- system messages ----------------------------------------------------------------------------------------------


def test_system_messages_anywhere_become_one_that_is_first() -> None:
    parts = [{"type": "text", "text": "b"}]
    history = [
        {"role": "system", "content": "a"},
        user('he said "system"'),
        {"role": "developer", "content": parts},
        {"role": "system", "content": " "},
        user("c"),
    ]
    assert sent(*history, system="ours") == [
        {"role": "system", "content": "ours\n\na\n\nb"},
        user('he said "system"'),
        user("c"),
    ]


# -- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", ['{"text": "abc', "null", "[1]", '"{}"', "3", "{'a': 1}", '{"a": NaN}', "{} x", "\\"])
def test_arguments_that_are_no_object_are_sent_as_an_empty_one_and_stand_in_the_result(raw: str) -> None:
    messages = sent(user("go"), assistant(None, call(arguments=raw)), result(content="not called"))

    assert calls_in(messages)[0]["function"]["arguments"] == "{}"
    assert f"They read: {raw}]" in results_in(messages)[0]
    assert results_in(messages)[0].endswith("not called")


@pytest.mark.parametrize("nothing", ["", " ", None])
def test_no_arguments_are_an_empty_object(nothing: str | None) -> None:
    messages = sent(user("go"), assistant(None, call(arguments=nothing)), result())

    assert calls_in(messages)[0]["function"]["arguments"] == "{}"
    assert results_in(messages) == ["seen"]


def test_arguments_that_are_an_object_itself_are_written_as_text() -> None:
    messages = sent(user("go"), assistant(None, call(arguments={"x": 1})), result())

    assert calls_in(messages)[0]["function"]["arguments"] == '{"x":1}'


def test_what_is_quoted_of_broken_arguments_is_bounded() -> None:
    messages = sent(user("go"), assistant(None, call(arguments="[" + "7," * 100_000)), result())

    assert len(results_in(messages)[0]) < MAX_RAW_CHARS + 200
    assert "(200001 characters)" in results_in(messages)[0]


def test_arguments_that_are_nested_too_deep_are_no_use_to_a_provider() -> None:
    deep = '{"a":' * 100 + "1" + "}" * 100
    messages = sent(user("go"), assistant(None, call(arguments=deep)), result())

    assert calls_in(messages)[0]["function"]["arguments"] == "{}"


# -- ids and names ------------------------------------------------------------------------------------------------


def test_an_id_that_comes_again_gets_a_short_substitute_in_call_and_result() -> None:
    turn = [user("go"), made_here(assistant(None, call("functions.echo:0"))), result("functions.echo:0")]
    messages = sent(*turn, *turn, *turn)

    ids = [call["id"] for call in calls_in(messages)]
    assert ids[0] == "functions.echo:0"
    assert len(set(ids)) == 3
    assert all(len(short) == 9 and short.isalnum() for short in ids[1:])
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == ids
    assert [call["id"] for call in calls_in(sent(*turn, *turn))] == ids[:2]  # what comes later changes nothing


@pytest.mark.parametrize("call_id", ["call_" + "Q" * 1_000, "x" * 41, "functions.echo:0", "a b", "é"])
def test_an_id_goes_back_whole_to_who_made_it_and_short_to_others(call_id: str) -> None:
    history = [user("go"), made_here(assistant(None, call(call_id))), result(call_id)]

    assert calls_in(sent(*history))[0]["id"] == call_id
    for target in (ELSEWHERE, ModelTarget(provider="here", model="two")):
        short = calls_in(sent(*history, target=target))[0]["id"]
        assert len(short) == 9
        assert short.isalnum()


def test_a_model_that_refuses_long_ids_gets_none_even_of_its_own() -> None:
    history = [user("go"), made_here(assistant(None, call("call_0123456789"), call("abcdefghi")))]
    target = ModelTarget(provider="here", model="one", takes_long_ids=False)

    first, second = (call["id"] for call in calls_in(sent(*history, target=target)))
    assert len(first) == 9
    assert second == "abcdefghi"


@pytest.mark.parametrize("call_id", ["", None, 7])
def test_an_id_that_is_none_is_made(call_id: Any) -> None:
    messages = sent(
        user("go"), assistant(None, call(call_id), call(call_id)), result(call_id, "x"), result(call_id, "y")
    )

    assert results_in(messages) == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "fit"),
    [("functions.echo", "functions_echo"), ("a b\n", "a_b_"), ("é" * 70, "_" * 64), ("", "unknown"), (None, "unknown")],
)
def test_a_name_that_providers_refuse_is_made_fit(name: Any, fit: str) -> None:
    messages = sent(user("go"), assistant(None, call(name=name)), result())

    assert calls_in(messages)[0]["function"]["name"] == fit


def test_the_name_of_who_speaks_is_made_fit() -> None:
    assert sent(user("hi", name="Ann <x>"))[0] == user("hi", name="Ann__x_")


@pytest.mark.parametrize(
    ("entry", "arguments"),
    [
        ({"id": "a", "name": "look", "arguments": '{"x":1}'}, '{"x":1}'),
        ({"id": "a", "type": "custom", "custom": {"name": "look", "input": "ls"}}, '{"input":"ls"}'),
        ({"id": "a", "function": {"name": "look"}}, "{}"),
        ({"id": "a", "function": None, "name": "look"}, "{}"),
    ],
)
def test_calls_of_other_shapes_are_written_as_function_calls(entry: Message, arguments: str) -> None:
    messages = sent(user("go"), assistant("", entry), result())

    assert messages[1] == assistant(None, call("a", arguments))
    assert results_in(messages) == ["seen"]


def test_the_old_form_of_a_call_and_its_result_is_written_in_the_new_one() -> None:
    asked = {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": "{}"}}
    messages = sent(user("go"), asked, {"role": "function", "name": "look", "content": "seen"})

    assert calls_in(messages)[0]["function"] == {"name": "look", "arguments": "{}"}
    assert results_in(messages) == ["seen"]


# -- results ------------------------------------------------------------------------------------------------------


def test_a_call_without_a_result_gets_one_that_says_so() -> None:
    messages = sent(user("go"), assistant("x", call("a"), call("b")), result("b"), user("and?"))

    assert results_in(messages) == [NO_RESULT, "seen"]


def test_a_result_that_comes_late_stands_behind_its_call() -> None:
    messages = sent(user("go"), assistant("x", call("a")), user("wait"), result("a"), user("and?"))

    assert results_in(messages) == ["seen"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user", "user"]


def test_a_result_without_its_call_is_kept_as_words_of_the_user() -> None:
    messages = sent(user("hi"), result("zz", "r"), user("and?"))

    assert messages == [user("hi"), user(f"{CALL_ELSEWHERE}\nr"), user("and?")]


def test_a_result_without_its_call_does_not_come_between_others_and_theirs() -> None:
    messages = sent(user("hi"), assistant(None, call("a"), call("b")), result("a"), result("zz", "r"), result("b", "2"))

    assert results_in(messages) == ["seen", "2"]
    assert messages[-1] == user(f"{CALL_ELSEWHERE}\nr")


def test_a_result_that_comes_twice_is_there_once_and_another_text_is_kept() -> None:
    twice = [user("hi"), assistant(None, call()), result(), result(), result(content="more")]

    assert results_in(sent(*twice)) == [f"seen\n{ANOTHER_RESULT}\nmore"]


@pytest.mark.parametrize("nothing", ["", " \n", [], [{"type": "text", "text": ""}], None])
def test_a_result_that_is_empty_says_so(nothing: Any) -> None:
    assert results_in(sent(user("go"), assistant(None, call()), result(content=nothing))) == [NOTHING_RETURNED]


# -- empty messages -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", ["", " \n", "\u00a0", None, []])
def test_an_empty_answer_is_left_out_and_an_empty_message_is_called_so(nothing: Any) -> None:
    assert sent(user("a"), assistant(nothing), user(nothing)) == [user("a"), user(EMPTY_MESSAGE)]


@pytest.mark.parametrize("nothing", ["", " \n", None, []])
def test_nothing_beside_calls_is_null(nothing: Any) -> None:
    assert sent(user("a"), assistant(nothing, call()), result())[1]["content"] is None


def test_a_refusal_is_what_was_said() -> None:
    parts = [{"type": "text", "text": "well"}, {"type": "refusal", "refusal": "no"}]

    assert sent(user("a"), assistant(parts), user("b"))[1] == assistant("well\nno")
    assert sent(user("a"), assistant(None, refusal="no"), user("b"))[1] == assistant("no")


# -- contents -----------------------------------------------------------------------------------------------------


def test_text_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}, "b", {"type": "input_text", "text": "c"}]

    assert sent(user(parts)) == [user("a\nb\nc")]


def test_pictures_stay_for_models_of_which_nothing_is_known_and_for_those_with_eyes() -> None:
    parts = [{"type": "text", "text": "look"}, PICTURE]

    assert sent(user(parts)) == [user(parts)]
    assert sent(user(parts), target=ModelTarget(provider="p", model="m", vision=True)) == [user(parts)]


def test_a_line_stands_for_each_picture_where_the_model_takes_none() -> None:
    blind = ModelTarget(provider="p", model="m", vision=False)
    parts = [{"type": "text", "text": "look"}, PICTURE]

    assert sent(user(parts), user([PICTURE]), target=blind) == [user(f"look\n{NO_PICTURE}"), user(NO_PICTURE)]


def test_parts_that_no_model_takes_are_named() -> None:
    audio = {"type": "input_audio", "input_audio": {"data": "AAAA"}}

    assert sent(user([audio])) == [user("[left out: a part of the kind input_audio]")]
    assert sent(user([{"type": "image_url"}])) == [user(PICTURE_WITHOUT_URL)]
    assert sent(user([{"type": "image_url", "image_url": "https://x"}]))[0]["content"][0]["image_url"] == {
        "url": "https://x"
    }
    shown = sent(user("a"), assistant(None, call()), result(content=[PICTURE, {"type": "text", "text": "b"}]))
    assert results_in(shown) == [f"{PICTURE_ELSEWHERE}\nb"]


@pytest.mark.parametrize("odd", [{"a": 1}, 7, True])
def test_a_content_of_no_known_shape_is_sent_as_text(odd: Any) -> None:
    assert sent(user(odd)) == [user(orjson.dumps(odd).decode())]


@pytest.mark.parametrize(("row", "text"), [(b"no JSON", "no JSON"), (b'["a"]', "a"), (b'{"content":"x"}', "x")])
def test_a_row_that_is_no_message_is_sent_as_text(row: bytes, text: str) -> None:
    (message,) = upstream_messages(ModelRequest(messages=[row]), HERE)

    assert orjson.loads(message) == user(text)


# -- what a provider attached -------------------------------------------------------------------------------------

SIGNED = made_here(
    assistant("hm", call(extra_content={"google": {"thought_signature": "c2ln"}}), reasoning_content="so", cache=None)
)


def test_what_a_provider_attached_goes_back_to_it_as_it_came() -> None:
    messages = sent(user("go"), SIGNED, result())

    assert messages[1] == {name: value for name, value in SIGNED.items() if name != "made_by"}


@pytest.mark.parametrize("target", [ELSEWHERE, ModelTarget(provider="here", model="two")])
def test_what_a_provider_attached_goes_to_no_other(target: ModelTarget) -> None:
    messages = sent(user("go"), SIGNED, result(), made_here(assistant("so", reasoning="why")), user("x"), target=target)

    assert set(messages[1]) == {"role", "content", "tool_calls"}
    assert set(messages[1]["tool_calls"][0]) == {"id", "type", "function"}
    assert messages[3] == assistant("so")


def test_after_a_switch_there_and_back_the_first_model_gets_its_own_again() -> None:
    there = {"provider": "there", "model": "one"}
    history = [user("1"), SIGNED, result(), user("2"), assistant(None, call("t", note=1), made_by=there), result("t")]

    here, elsewhere = sent(*history), sent(*history, target=ELSEWHERE)

    assert ["extra_content" in call for call in calls_in(here)] == [True, False]
    assert ["note" in call for call in calls_in(elsewhere)] == [False, True]
    assert calls_in(here)[0]["id"] == "a"
    assert calls_in(elsewhere)[1]["id"] == "t"


def test_a_model_that_refuses_what_it_attached_does_not_get_it_back() -> None:
    target = ModelTarget(provider="here", model="one", takes_attached=False)

    assert set(sent(user("go"), SIGNED, result(), target=target)[1]) == {"role", "content", "tool_calls"}


def test_a_model_that_refuses_calls_without_its_signature_gets_those_of_others_in_words() -> None:
    target = ModelTarget(provider="here", model="one", takes_bare_calls=False)
    history = [
        user("1"),
        assistant("x", call("t", '{"q":1}', "find")),
        result("t", "found"),
        user("2"),
        SIGNED,
        result(),
    ]

    messages = sent(*history, target=target)

    assert messages[1:3] == [
        assistant('x\n[called the tool find with {"q":1}]'),
        user("[the tool find returned:]\nfound"),
    ]
    assert "extra_content" in calls_in(messages)[0]


# -- what a model is known to refuse ------------------------------------------------------------------------------


def test_where_roles_must_alternate_neighbours_become_one_and_gaps_are_filled() -> None:
    strict = ModelTarget(provider="p", model="m", takes_repeated_roles=False)
    history = [
        assistant("welcome"),
        user("a"),
        user([PICTURE]),
        assistant("let me see"),
        assistant(None, call()),
        result(),
        user("b"),
        user("c"),
    ]
    assert sent(*history, target=strict, system="s") == [
        {"role": "system", "content": "s"},
        user(NOTHING_SAID),
        assistant("welcome"),
        user([{"type": "text", "text": "a"}, PICTURE]),
        assistant("let me see", call()),
        result(),
        assistant(NOTHING_ANSWERED),
        user("b\n\nc"),
    ]


def test_a_model_without_system_messages_gets_the_text_from_the_user() -> None:
    target = ModelTarget(provider="p", model="m", takes_system=False)
    strict = ModelTarget(provider="p", model="m", takes_system=False, takes_repeated_roles=False)

    assert sent(user("a"), target=target, system="s") == [user("s"), user("a")]
    assert sent(user("a"), target=strict, system="s") == [user("s\n\na")]


def test_a_model_without_names_gets_them_before_the_text() -> None:
    target = ModelTarget(provider="p", model="m", takes_names=False)
    history = [user("a", name="al"), user([PICTURE], name="al"), assistant("b", name="bo")]

    assert sent(*history, assistant(None, call(), name="bo"), result(), target=target) == [
        user("al: a"),
        user([{"type": "text", "text": "al:"}, PICTURE]),
        assistant("bo: b"),
        assistant(None, call()),
        result(),
    ]


def test_a_model_without_null_gets_words_beside_calls() -> None:
    target = ModelTarget(provider="here", model="one", takes_null_content=False)

    assert sent(user("a"), assistant(None, call()), result(), target=target)[1]["content"] == CALLS_ONLY
