"""``${VAR}`` in every text of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.config_desk import KEYS, Desk
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.filled import fill
from hermes_actors.config.load import summary
from hermes_actors.config.reload import changes, reloaded


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.at(tmp_path / "home")


@pytest.mark.parametrize(
    ("text", "value", "key", "wanted"),
    [
        ("model: {default: '${V}'}", "qwen3", "model.default", "qwen3"),
        ("model: {default: 'org/${env:V}:free'}", "qwen3", "model.default", "org/qwen3:free"),
        ("model: {base_url: 'http://${V}/v1'}", "h:8000", "model.base_url", "http://h:8000/v1"),
        ("model: {provider: '${V}'}", "demo", "model.provider", "demo"),
        ("model: {context_length: '${V}'}", "8192", "model.context_length", 8192),
        ("model: {vision: '${V}'}", "false", "model.vision", False),
        ("model: {connect_timeout: '${V}'}", "2.5", "model.connect_timeout", 2.5),
        ("agent: {system_prompt: 'You are ${V}.'}", "Ada", "agent.system_prompt", "You are Ada."),
        ("agent: {system_prompt: 'Write $${V}.'}", "Ada", "agent.system_prompt", "Write ${V}."),
        ("agent: {system_prompt: '${V}'}", "5", "agent.system_prompt", "5"),
        ("agent: {compaction: '${V}'}", "off", "agent.compaction", None),
        ("supervisor: {workers: '${V}'}", "2", "supervisor.workers", 2),
        ("supervisor: {workers: '${V}'}", "auto", "supervisor.workers", "auto"),
        ("api_server: {host: '${V}'}", "0.0.0.0", "api_server.host", "0.0.0.0"),
        ("api_server: {port: '${V}'}", "9000", "api_server.port", 9000),
        ("api_server: {admins: ['${V}']}", "default", "api_server.admins", ("default",)),
        ("store: {durability: '${V}'}", "process", "store.durability", "process"),
    ],
)
def test_a_variable_works_in_every_text(desk: Desk, text: str, value: str, key: str, wanted: object) -> None:
    settings = desk.accepted(text, KEYS | {"V": value})

    assert attrgetter(key)(settings.config) == wanted


def test_a_variable_works_in_the_lists_of_fallbacks_and_of_tools(desk: Desk) -> None:
    settings = desk.accepted(
        """\
        fallback_providers: [{model: "${V}", base_url: "http://${V}/v1", context_length: "${N}"}]
        mcp_servers: {a: {command: x, tools: {include: ["${V}_*"]}, timeout: "${N}", scope: "${S}"}}
        """,
        KEYS | {"V": "v", "N": "300", "S": "worker"},
    )

    (fallback,) = settings.config.fallback_providers
    assert (fallback.model, fallback.base_url, fallback.context_length) == ("v", "http://v/v1", 300)
    server = settings.config.mcp_servers["a"]
    assert (server.tools.include, server.timeout, server.scope) == (("v_*",), 300.0, "worker")


@pytest.mark.parametrize(
    "text",
    [
        "model:\n  default: '${GONE}'",
        "model:\n  base_url: 'http://${GONE}/v1'",
        "model:\n  provider: '${GONE}'",
        "agent:\n  system_prompt: 'a ${GONE}'",
        "agent:\n  max_turns: '${GONE}'",
        "api_server:\n  port: ${GONE}",
        "api_server:\n  admins: ['${GONE}']",
        "fallback_providers:\n  - {model: '${GONE}', base_url: 'http://h/v1'}",
        "mcp_servers:\n  a: {command: x, tools: {exclude: ['${GONE}']}}",
        "mcp_servers:\n  a: {command: x, args: ['${GONE}']}",
        "store:\n  durability: ${GONE}",
    ],
)
def test_a_variable_that_is_not_set_is_named_with_its_line(desk: Desk, text: str) -> None:
    problem = desk.problem(text)

    assert (problem.what, problem.line) == ("the variable GONE is not set", 2)


@pytest.mark.parametrize("reference", ["${V:-x}", "${V", "${}", "${V V}"])
def test_what_begins_like_a_reference_and_is_none_is_an_error(desk: Desk, reference: str) -> None:
    problem = desk.problem(f"agent:\n  system_prompt: '{reference}'", KEYS | {"V": "v"})

    assert "${NAME}" in problem.what
    assert problem.line == 2


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("agent: {max_turns: '${V}'}", "expected a whole number, got what ${V} stands for"),
        ("store: {durability: '${V}'}", "expected 'power_loss' or 'process', got what ${V} stands for"),
        ("model: {provider: custom, base_url: '${V}'}", "expected an http:// or https:// URL"),
        ("api_server: {host: '${V}'}", "expected an address or host name, like 127.0.0.1, got what ${V} stands for"),
    ],
)
def test_the_value_of_a_variable_is_not_repeated(desk: Desk, text: str, what: str) -> None:
    problem = desk.problem(text, KEYS | {"V": "hush hush"})

    assert problem.what.startswith(what)
    assert "hush" not in str(problem)


def test_a_url_from_a_variable_is_shown_as_it_is_written(desk: Desk) -> None:
    text = "model: {provider: custom, base_url: 'http://h/${V}/v1'}"
    old, new = (desk.accepted(text, KEYS | {"V": value}) for value in ("hush-1", "hush-2"))

    assert ("model", "custom gpt-5-mini at http://h/${V}/v1, no key") in summary(old)
    (told,) = changes(old, new)
    assert (told.key, told.what) == ("model.base_url", "a new value in V")
    assert old.environment["V"] == "hush-1", "so that the log masks it"
    assert "hush" not in f"{summary(old)} {old!r} {old.config!r}"


def test_a_text_from_a_variable_that_waits_for_a_restart_is_told_again(desk: Desk) -> None:
    text = "api_server: {host: '${V}'}"
    old, new = (desk.accepted(text, KEYS | {"V": value}) for value in ("127.0.0.1", "127.0.0.2"))

    after = reloaded(old, new)

    assert after.config.api_server.host == "127.0.0.1"
    assert [change.what for change in changes(after, new)] == ["a new value in V"]


def test_the_texts_of_servers_are_left_to_the_worker_that_connects(desk: Desk) -> None:
    settings = desk.accepted("mcp_servers: {a: {command: '${V}', env: {T: '${V}'}}}", KEYS | {"V": "hush"})

    assert settings.config.mcp_servers["a"].command == "${V}"
    assert settings.environment["V"] == "hush"


_TEXTS = st.text(max_size=6) | st.sampled_from(["${A}", "x${A}${B}", "$${A}", "${", "${GONE}", "5"])
_DATA: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["a", "key_env", "url"]), below),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["model", "mcp_servers", "agent"]), _DATA))
def test_filling_in_changes_texts_alone_and_gives_each_its_value_or_a_problem(plain: Mapping[str, Any]) -> None:
    before = yaml.safe_dump(plain)
    filled = fill(plain, {"A": "1", "B": "${A}"})

    assert yaml.safe_dump(plain) == before, "what was given stays as it is"
    assert fill(plain, {"A": "1", "B": "${A}"}) == filled
    assert not filled.written.keys() & {problem.path for problem in filled.problems}
    if not filled.written:
        assert filled.value == plain
