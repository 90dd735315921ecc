"""What is said of a model that was asked for a trial."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.model_failures import failed

from workers.models.provider import ModelReply, ToolCall
from workers.probe.checks import Check, Outcome, ProbeAnswers, ProbedConfig, checks_of

WANTED = ProbedConfig(model="m", has_tools=True)


def reply(text: str = "1 2 3", **fields: Any) -> ModelReply:
    given = {"tool_calls": (), "finish_reason": "stop", "usage": {"prompt_tokens": 9}, "model": "m"}
    return ModelReply(text=text, **{**given, **fields})


CALL = ToolCall(call_id="a", name="ping", arguments="{}")
GOOD = ProbeAnswers(
    plain=reply(),
    pieces=3,
    tool=reply("", tool_calls=(CALL,)),
    picture=reply("Red."),
    wrong_model=failed(status=404, code="model_not_found", text="no such model"),
    window=32_768,
)


def checked(seen: ProbeAnswers = GOOD, wanted: ProbedConfig = WANTED) -> dict[str, Check]:
    return {check.what: check for check in checks_of(seen, wanted)}


def test_of_a_good_server_everything_is_well() -> None:
    checks = checked()

    assert {check.level for check in checks.values()} == {"ok"}
    assert list(checks) == ["answers", "stream", "tokens", "window", "tools", "pictures", "wrong model id"]


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (failed(status=401, text="bad key", key_env="THE_KEY"), "THE_KEY"),
        (failed(status=None, kind="connect", text="refused"), ""),
        (failed(status=404, code="model_not_found", text="no such model"), "model id"),
    ],
)
def test_a_model_that_does_not_answer_is_bad_and_asked_nothing_else(failure: Any, advice: str) -> None:
    checks = checked(ProbeAnswers(plain=failure))

    assert list(checks) == ["answers"]
    assert (checks["answers"].level, advice in checks["answers"].remedy) == ("bad", True)
    assert failure.text in checks["answers"].seen


REFUSED = failed(
    status=400, text='"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
)


@pytest.mark.parametrize(
    ("outcome", "level", "seen"),
    [
        (reply("", tool_calls=(CALL,)), "ok", "understood"),
        (REFUSED, "bad", "refused"),
        (reply('<tool_call>{"name": "ping"}</tool_call>'), "bad", "as text"),
        (reply('{"name": "ping", "arguments": {}}'), "bad", "as text"),
        (reply("I cannot do that."), "note", "did not call"),
        (failed(status=503, text="busy"), "note", "busy"),
    ],
)
def test_tools_that_would_not_be_called_are_bad_where_tool_servers_are_configured(
    outcome: Outcome, level: str, seen: str
) -> None:
    with_servers = checked(replace(GOOD, tool=outcome))["tools"]
    without = checked(replace(GOOD, tool=outcome), replace(WANTED, has_tools=False))["tools"]

    assert (with_servers.level, seen in with_servers.seen) == (level, True)
    assert without.level == ("note" if level == "bad" else level)
    assert bool(with_servers.remedy) == (level != "ok")


@pytest.mark.parametrize(
    ("stated", "configured", "level", "seen"),
    [
        (None, None, "note", "does not state"),
        (32_768, None, "ok", "32,768 tokens, as the server states"),
        (None, 32_768, "ok", "as configured"),
        (131_072, 32_768, "ok", "32,768 tokens, as configured"),
        (4096, 32_768, "note", "but context_length says 32,768"),
        (2048, None, "note", "2,048"),
    ],
)
def test_the_window_that_counts_is_named(stated: int | None, configured: int | None, level: str, seen: str) -> None:
    check = checked(replace(GOOD, window=stated), replace(WANTED, context_length=configured))["window"]

    assert (check.level, seen in check.seen) == (level, True)


@pytest.mark.parametrize(
    ("outcome", "vision", "seen", "remedy"),
    [
        (reply("It is red"), None, "seen", ""),
        (reply("I see nothing"), None, "does not show", "vision: false"),
        (failed(status=400, text="auto is not a multimodal model"), None, "refused", "set vision: false"),
        (failed(status=400, text="image input is not supported"), True, "refused", "vision: true"),
    ],
)
def test_whether_pictures_are_seen_is_said_with_the_setting_that_fits(
    outcome: Outcome, vision: bool | None, seen: str, remedy: str
) -> None:
    check = checked(replace(GOOD, picture=outcome), replace(WANTED, vision=vision))["pictures"]

    assert seen in check.seen
    assert remedy in check.remedy
    assert check.level == ("note" if remedy else "ok")


def test_what_will_hurt_is_a_note_with_a_remedy() -> None:
    seen = replace(GOOD, plain=reply(usage={}, model="other"), pieces=1, wrong_model=reply("yes", model="loaded.gguf"))

    checks = checked(seen)

    assert "names itself other" in checks["answers"].seen
    for what in ("stream", "tokens", "wrong model id"):
        assert (checks[what].level, bool(checks[what].remedy)) == ("note", True), what
    assert "loaded.gguf" in checks["wrong model id"].seen


def test_an_empty_answer_is_a_note() -> None:
    assert checked(replace(GOOD, plain=reply(" ")))["answers"].level == "note"


def test_long_words_of_a_provider_are_bounded() -> None:
    assert len(checked(ProbeAnswers(plain=failed(status=500, text="x" * 5000)))["answers"].seen) < 250
