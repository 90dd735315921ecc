"""What a new configuration means to a gateway that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.model import Config, Section, Settings, from_plain, to_plain
from hermes_actors.config.reload import RULES, changes, reloaded
from hermes_actors.config.resolve import resolve
from hermes_actors.operations.results import Change

_PAGE = Path(__file__).parents[2] / "docs/howto/change-the-configuration.md"

SECRET = "hush"
VALUES = {name: f"{SECRET}-value-of-{name}" for name in ("OPENAI_API_KEY", "API_SERVER_KEY", "ALICE_KEY", "TOKEN")}

OTHER: Mapping[str, Any] = {  # for each key another value than its default
    "model": {
        "provider": "demo", "default": "m", "base_url": "http://h/v1", "key_env": "TOKEN", "connect_timeout": 1.5,
        "context_length": 256, "vision": False, "first_token_timeout": 1, "inter_token_timeout": 1,
    },
    "fallback_providers": [{"provider": "demo", "model": "m"}],
    "mcp_servers": {"time": {"command": "c"}},
    "agent": {
        "max_turns": 1, "restart_drain_timeout": 0, "system_prompt": SECRET, "api_max_retries": 1, "compaction": "off",
    },
    "supervisor": {
        "workers": 3, "shards": 16, "stuck_threshold": 1, "heartbeat_seconds": 1, "max_restarts": 1,
        "restart_window_seconds": 1,
    },
    "sessions": {"max_resident_per_worker": 1, "idle_ttl_seconds": 1, "mailbox_limit": 1, "resume_fresh_seconds": 1},
    "api_server": {
        "host": "::1", "port": 1, "keys": {"alice": {"key_env": "ALICE_KEY"}}, "key_env": "TOKEN", "admins": [],
        "max_body_bytes": 1, "sampling_parameters": "drop", "cors_origins": ["https://chat.example.com"],
        "response_days": 1,
    },
    "admin": {"host": "::1", "port": 1},
    "store": {"durability": "process"},
}  # fmt: skip
FOLLOWS = {"model": "OPENAI_API_KEY", "api_server": "API_SERVER_KEY"}  # section to its default key_env


def settings(plain: Mapping[str, Any], variables: Mapping[str, str] = VALUES) -> Settings:
    """As the configuration's reader makes them."""
    config = from_plain(dict(plain))
    found = resolve(config, variables)
    assert found.problems == []
    return Settings(config=config, environment=found.environment, api_keys=found.api_keys)


def at(of: Settings, key: str) -> Any:
    return attrgetter(key)(of.config)


def change(old: Settings, new: Settings) -> Change:
    (only,) = changes(old, new)
    return only


# -- every key ---------------------------------------------------------------------------------------------------------


def _keys(section: type[Section], above: str) -> Iterator[str]:
    """The keys of a section and of those below it; lists and names with entries are one key each."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _keys(field.annotation, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def test_every_key_of_the_configuration_has_a_rule() -> None:
    assert sorted(_keys(Config, "")) == sorted(RULES)


def _alone(key: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two configurations that differ in one key; what would follow from it is written out in both."""
    section, _, name = key.partition(".")
    if not name:
        return {}, {section: OTHER[section]}
    both = {"key_env": FOLLOWS[section]} if section in FOLLOWS else {}
    return {section: both}, {section: {**both, name: OTHER[section][name]}}


@pytest.mark.parametrize(("key", "when"), RULES.items())
def test_a_change_of_one_key_is_told_and_applied_as_its_rule_says(key: str, when: str) -> None:
    old, new = map(settings, _alone(key))
    after = reloaded(old, new)

    told = change(old, new)

    assert told.key.startswith(key)
    assert told.when == when
    assert at(old, key) != at(new, key)
    assert at(after, key) == at(old if when == "restart" else new, key)


def test_the_page_for_operators_says_of_every_key_when_it_takes_effect() -> None:
    rows = re.findall(r"^\| (`.*) \| (.+?) \|$", _PAGE.read_text(), flags=re.MULTILINE)
    words = {"at once": "now", "at the next turn": "next_turn", "after a restart": "restart"}
    written: dict[str, str] = {}
    for cell, effect in rows:
        for pattern in re.findall(r"`([a-z_.*]+)`", cell):
            matching = [key for key in RULES if fnmatchcase(key, pattern)]
            assert matching, pattern
            written |= dict.fromkeys(matching, words[effect])

    assert written == RULES


# -- all configurations ------------------------------------------------------------------------------------------------


def _some(values: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={key: st.just(value) for key, value in values.items()})


_LITERAL = st.sampled_from([f"{SECRET}-1", f"{SECRET}-${{TOKEN}}", f"{SECRET}-${{env:ALICE_KEY}}", f"{SECRET}-$${{x"])
_SERVERS = (
    st.fixed_dictionaries(
        {"command": st.sampled_from(["a", "${TOKEN}"])},
        optional={
            "args": st.lists(_LITERAL, max_size=2),
            "env": st.dictionaries(st.just("A"), _LITERAL),
            "enabled": st.booleans(),
            "tools": st.just({"include": ["x"]}),
        },
    ),
    st.fixed_dictionaries({"url": st.just("http://h/mcp"), "headers": st.dictionaries(st.just("A"), _LITERAL)}),
    st.just({"command": "${", "enabled": False}),  # misspelt: nobody looks at the variables of a disabled one
)
_FALLBACK = st.fixed_dictionaries(
    {"model": st.sampled_from(["a", "b", "a, b"]), "base_url": st.sampled_from(["http://h/v1", "http://h/v1.0"])},
    optional={"key_env": st.sampled_from(["TOKEN", "OPENAI_API_KEY"])},
)
_ALICE, _BOB = {"key_env": "ALICE_KEY"}, {"key_env": "TOKEN"}
_CALLERS = st.sampled_from(
    [
        {},
        {"key_env": "TOKEN"},
        {"keys": {"default": _ALICE}},
        {"keys": {"alice": _ALICE, "bob": _BOB}},
        {"keys": {"alice": _BOB, "bob": _ALICE}},
        {"keys": {"alice": _ALICE}, "key_env": "API_SERVER_KEY"},
    ]
)
_PLAIN = st.fixed_dictionaries(
    {
        **{
            section: _some(OTHER[section]) for section in ("model", "agent", "supervisor", "sessions", "admin", "store")
        },
        "fallback_providers": st.lists(_FALLBACK, max_size=2),
        "mcp_servers": st.dictionaries(st.sampled_from(["time", "files"]), st.one_of(_SERVERS)),
        "api_server": st.builds(lambda a, b: a | b, _some({"host": "::1", "port": 1, "max_body_bytes": 1}), _CALLERS),
    }
)
_VARIABLES = st.fixed_dictionaries({name: st.sampled_from([value, f"{value}-new"]) for name, value in VALUES.items()})
_SETTINGS = st.builds(settings, _PLAIN, _VARIABLES)


@given(_SETTINGS)
def test_nothing_changes_where_nothing_did(same: Settings) -> None:
    assert changes(same, replace(same)) == ()
    assert reloaded(same, same) == same


@given(_SETTINGS, _SETTINGS)
def test_whatever_differs_is_told(old: Settings, new: Settings) -> None:
    assert bool(changes(old, new)) == (old != new)


@given(_SETTINGS, _SETTINGS)
def test_a_reload_changes_exactly_what_needs_no_restart(old: Settings, new: Settings) -> None:
    after = reloaded(old, new)

    for key, when in RULES.items():
        assert at(after, key) == at(old if when == "restart" else new, key), key
    assert (after.environment, after.api_keys) == (new.environment, new.api_keys)


@given(_SETTINGS, _SETTINGS)
def test_what_is_told_is_what_happens_and_what_waits_for_a_restart_is_told_again(old: Settings, new: Settings) -> None:
    told, after = changes(old, new), reloaded(old, new)

    assert changes(old, after) == tuple(change for change in told if change.when != "restart")
    assert changes(after, new) == tuple(change for change in told if change.when == "restart")


@given(_SETTINGS, _SETTINGS)
def test_what_is_reloaded_is_a_configuration_that_workers_accept(old: Settings, new: Settings) -> None:
    config = reloaded(old, new).config

    assert from_plain(to_plain(config)) == config


@given(_SETTINGS, _SETTINGS)
def test_no_secret_is_told(old: Settings, new: Settings) -> None:
    assert SECRET not in repr(changes(old, new))


# -- words -------------------------------------------------------------------------------------------------------------


def _server(**entry: Any) -> dict[str, Any]:
    return {"mcp_servers": {"time": {"command": "c", **entry}}}


def _fallback(*models: str, **entry: Any) -> dict[str, Any]:
    return {"fallback_providers": [{"model": model, "base_url": "http://h/v1", **entry} for model in models]}


@pytest.mark.parametrize(
    ("old", "new", "key", "what"),
    [
        ({}, {"sessions": {"mailbox_limit": 64}}, "sessions.mailbox_limit", "32 → 64"),
        ({}, {"agent": {"restart_drain_timeout": 0.5}}, "agent.restart_drain_timeout", "60 → 0.5"),
        ({}, {"agent": {"system_prompt": "x"}}, "agent.system_prompt", "added"),
        ({"agent": {"system_prompt": "x"}}, {"agent": {"system_prompt": "y"}}, "agent.system_prompt", "changed"),
        ({"agent": {"system_prompt": "x"}}, {}, "agent.system_prompt", "removed"),
        ({}, {"model": {"base_url": "http://h/v1.0"}}, "model.base_url", "https://api.openai.com/v1 → http://h/v1.0"),
        ({}, {"model": {"key_env": "TOKEN"}}, "model.key_env", "OPENAI_API_KEY → TOKEN"),
        (_fallback(), _fallback("a", "b"), "fallback_providers", "none → a, b"),
        (_fallback("a"), _fallback("a", key_env="TOKEN"), "fallback_providers", "a: key_env"),
        (
            _fallback("a"),
            _fallback("a", vision=False, context_length=256),
            "fallback_providers",
            "a: context_length, vision",
        ),
        ({}, {"model": {"vision": False}}, "model.vision", "none → false"),
        ({"model": {"context_length": 8192}}, {}, "model.context_length", "8192 → none"),
        ({}, {"agent": {"compaction": False}}, "agent.compaction", "at 0.8 with keep_turns 6 → off"),
        (
            {"agent": {"compaction": "off"}},
            {"agent": {"compaction": {"at": 0.5}}},
            "agent.compaction",
            "off → at 0.5 with keep_turns 6",
        ),
        (_server(), _server(on_stop="end", resources=True), "mcp_servers.time", "reconnects: on_stop, resources"),
        ({"mcp_servers": {}}, _server(), "mcp_servers.time", "added"),
        (_server(), {"mcp_servers": {}}, "mcp_servers.time", "removed"),
        (_server(), _server(args=["x"], env={"A": "b"}), "mcp_servers.time", "reconnects: args, env"),
        (_server(), _server(enabled=False), "mcp_servers.time", "disabled"),
        (_server(enabled=False), _server(timeout=1), "mcp_servers.time", "enabled: timeout"),
        (_server(enabled=False), _server(enabled=False, cwd="/"), "mcp_servers.time", "stays disabled: cwd"),
        (
            {"api_server": {"key_env": "API_SERVER_KEY"}},
            {"api_server": {"key_env": "API_SERVER_KEY", "keys": {"alice": {"key_env": "ALICE_KEY"}}}},
            "api_server.keys.alice",
            "none → ALICE_KEY",
        ),
        (
            {},
            {"supervisor": {"shards": 16}},
            "supervisor.shards",
            "auto → 16 (a home keeps the number that it was made with)",
        ),
    ],
)
def test_a_change_is_told_in_words(old: dict[str, Any], new: dict[str, Any], key: str, what: str) -> None:
    told = change(settings(old), settings(new))

    assert (told.key, told.what) == (key, what)


@pytest.mark.parametrize(
    ("plain", "rotated", "key", "when", "what"),
    [
        ({}, "OPENAI_API_KEY", "model.key_env", "next_turn", "a new value in OPENAI_API_KEY"),
        ({}, "API_SERVER_KEY", "api_server.key_env", "now", "a new value in API_SERVER_KEY"),
        (
            {"api_server": {"keys": {"alice": {"key_env": "ALICE_KEY"}}}},
            "ALICE_KEY",
            "api_server.keys.alice",
            "now",
            "a new value in ALICE_KEY",
        ),
        (
            _fallback("a", "b", key_env="TOKEN"),
            "TOKEN",
            "fallback_providers",
            "next_turn",
            "a new value in TOKEN",
        ),
        (
            _server(args=["${TOKEN}", "${env:TOKEN}"]),
            "TOKEN",
            "mcp_servers.time",
            "next_turn",
            "reconnects: a new value in TOKEN",
        ),
    ],
)
def test_a_rotated_secret_is_a_change_of_the_key_that_names_it(
    plain: dict[str, Any], rotated: str, key: str, when: str, what: str
) -> None:
    old, new = settings(plain), settings(plain, {**VALUES, rotated: f"{SECRET}-rotated"})

    assert change(old, new) == Change(key=key, when=when, what=what)  # type: ignore[arg-type]  # one of the three
    assert changes(reloaded(old, new), new) == ()


def test_a_variable_that_two_keys_name_is_told_of_both() -> None:
    plain = {
        "model": {"key_env": "TOKEN"},
        **_server(env={"A": "${TOKEN}"}),
        **_fallback("a", key_env="OPENAI_API_KEY"),
    }

    told = changes(settings(plain), settings(plain, {**VALUES, "TOKEN": f"{SECRET}-rotated"}))

    assert [change.key for change in told] == ["model.key_env", "mcp_servers.time"]


def test_callers_by_name_may_replace_the_only_one() -> None:
    old, new = settings({}), settings({"api_server": {"keys": {"bob": {"key_env": "TOKEN"}}}})

    assert [(change.key, change.what) for change in changes(old, new)] == [
        ("api_server.keys.bob", "none → TOKEN"),
        ("api_server.key_env", "API_SERVER_KEY → none"),
        ("api_server.admins", "default → none"),
    ]
    assert dict(reloaded(old, new).api_keys) == {"bob": VALUES["TOKEN"]}
