"""What of a configuration is repeated to people and to the log: nothing that may be a secret."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from fakes.config_desk import KEYS, Desk
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.pasted import is_plain_name, is_plain_number, is_plain_word, looks_like_key

HEX = "a3f09c1d7e5b428896f1c0d2e3b4a5968778695a4b3c2d1e"  # as of openssl rand -hex 24
PASTED = [
    HEX,
    HEX.upper(),
    "abcdefNEWKEY0123456789",
    "sk-hush-hush",
    "sk-proj-4Jk2Lm9Qp0Zx8Cv7Bn6M",
    "hf_AbCdEfGhIjKlMnOpQrStUvWx",
    "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "AKIAIOSFODNN7EXAMPLE",
    "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
    "dGhpcyBpcyBhIHNlY3JldCBrZXk9PQ3/+x9A",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
]
NAMES = ["OPENAI_API_KEY", "openai_api_key", "THEKEY", "HF_TOKEN", "npm_token", "AZURE_KEY_2", "AWS_SECRET_ACCESS_KEY"]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.at(tmp_path / "home")


# -- what a key looks like ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PASTED)
def test_a_key_is_known_by_its_form(key: str) -> None:
    assert looks_like_key(key)
    assert not is_plain_name(key)
    assert not is_plain_word(key)


@given(st.binary(min_size=24, max_size=48))
def test_what_openssl_makes_is_never_repeated(raw: bytes) -> None:
    assert looks_like_key(raw.hex())
    for text in (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode()):
        assert not is_plain_word(text)
    assert not is_plain_name(raw.hex())


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_known_by_its_form_too(name: str) -> None:
    assert is_plain_name(name)


@pytest.mark.parametrize("word", ["soon", "8k", "10s", "5 minutes", "power-loss", "gpt", "maybe", "90%"])
def test_a_word_may_be_repeated(word: str) -> None:
    assert is_plain_word(word) == (word != "90%")


def test_a_long_number_may_be_a_code() -> None:
    assert is_plain_number(99999999)
    assert is_plain_number(-0.5)
    assert not is_plain_number(424242424242)


# -- keys in wrong places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", PASTED)
@pytest.mark.parametrize(
    "text",
    [
        "model: {{key_env: '{key}'}}",
        "fallback_providers: [{{model: m, base_url: 'http://h/v1', key_env: '{key}'}}]",
        "api_server: {{key_env: '{key}'}}",
        "api_server: {{keys: {{bob: {{key_env: '{key}'}}}}}}",
    ],
)
def test_a_key_in_the_place_of_a_variables_name_is_recognised_and_not_repeated(desk: Desk, text: str, key: str) -> None:
    problem = desk.problem(text.format(key=key))

    assert "looks like a key" in problem.what
    assert problem.line == 1
    assert "NAME" in problem.remedy
    assert key not in str(problem)


@pytest.mark.parametrize("key", PASTED)
@pytest.mark.parametrize(
    "text",
    [
        "mcp_servers: {{a: {{url: 'http://h', headers: {{Authorization: 'Bearer ${{{key}}}'}}}}}}",
        "mcp_servers: {{a: {{command: x, env: {{T: '${{{key}}}'}}}}}}",
        "model: {{base_url: 'http://h/${{{key}}}'}}",
        "model: {{provider: '{key}'}}",
        "agent: {{max_turns: '{key}'}}",
        "model: {{'{key}': 1}}",
        "model: {{'{key}'}}",
        "'{key}': 1",
        "api_server: {{admins: ['{key}']}}",
        "api_server: {{keys: {{bob: '{key}'}}}}",
        "api_server: {{keys: ['{key}']}}",
        "mcp_servers: {{a: {{command: x, env: '{key}'}}}}",
        "mcp_servers: {{a: {{command: x, scope: '{key}'}}}}",
        "model: {{api_key: '{key}'}}",
        "api_server: {{keys: {{'{key}': {{}}}}}}",
    ],
)
def test_a_key_in_any_other_place_is_not_repeated_either(desk: Desk, text: str, key: str) -> None:
    problems = desk.problems(text.format(key=key))

    assert not [str(problem) for problem in problems if key in str(problem)]


@pytest.mark.parametrize("value", ["12345678", "1234567890123", "-1.2345678e+300", "{a: 12345678}"])
@pytest.mark.parametrize(
    "text",
    [
        "api_server: {keys: {bob: VALUE}}",
        "api_server: {keys: {bob: {key_env: VALUE}}}",
        "model: {key_env: VALUE}",
        "mcp_servers: {a: {url: 'http://h', headers: VALUE}}",
        "mcp_servers: {a: {url: 'http://h', headers: {A: VALUE}}}",
        "mcp_servers: {a: {command: x, env: {PIN: VALUE}}}",
        "mcp_servers: {a: {command: x, args: VALUE}}",
    ],
)
def test_a_value_of_a_wrong_type_where_secrets_stand_is_not_repeated(desk: Desk, text: str, value: str) -> None:
    problems = desk.problems(text.replace("VALUE", value))

    assert not [str(problem) for problem in problems if "2345678" in str(problem)]


@pytest.mark.parametrize("text", ["a: *hushhush\n", "a: &hushhush x\nb: &hushhush y\n", "a: !hush!hush x\n"])
def test_what_yaml_takes_for_an_alias_or_a_tag_is_not_repeated(desk: Desk, text: str) -> None:
    assert not [str(problem) for problem in desk.problems(text) if "hush" in str(problem)]


# -- secrets that stand in the file ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "way"),
    [
        ("model: {api_key: hush, key_env: OPENAI_API_KEY}", "model.api_key", "key_env: NAME"),
        ("model: {apiKey: hush}", "model.apiKey", "key_env: NAME"),
        ("model: {token: hush}", "model.token", "key_env: NAME"),
        ("model: {api-key: hush}", "model.api-key", "key_env: NAME"),
        ("fallback_providers: [{model: m, base_url: 'http://h/v1', key: hush}]", "fallback_providers.0.key", "key_env"),
        ("api_server: {key: hush}", "api_server.key", "key_env: NAME"),
        ("api_server: {keys: {bob: {key: hush, key_env: API_SERVER_KEY}}}", "api_server.keys.bob.key", "key_env"),
        ("mcp_servers: {a: {url: 'http://h', token: hush}}", "mcp_servers.a.token", "${NAME} into headers"),
        ("mcp_servers: {a: {command: x, api_key: hush}}", "mcp_servers.a.api_key", "env (of a command)"),
        ("OPENAI_API_KEY: hush", "OPENAI_API_KEY", ".env"),
    ],
)
def test_a_secret_beside_or_instead_of_key_env_is_told_where_it_belongs(
    desk: Desk, text: str, key: str, way: str
) -> None:
    (problem, *_) = desk.problems(text)

    assert problem.key == key
    assert problem.what == "a secret does not stand in this file, only the name of its variable"
    assert way in problem.remedy
    assert "hush" not in str(problem)


def test_a_caller_with_a_key_where_its_section_belongs_is_told_of_key_env(desk: Desk) -> None:
    problem = desk.problem("api_server: {keys: {alice: hush-hush}}")

    assert problem.what == "expected key_env below it, which names a variable"


@pytest.mark.parametrize("text", ["$OPENAI_API_KEY", "${OPENAI_API_KEY}"])
def test_a_variable_where_its_name_belongs_is_told_to_be_the_name_alone(desk: Desk, text: str) -> None:
    assert "without $" in desk.problem(f"model: {{key_env: '{text}'}}").remedy


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_name_that_is_not_set_is_named(desk: Desk, name: str) -> None:
    problem = desk.problem(f"\nmodel:\n  key_env: {name}\n", {"API_SERVER_KEY": "long-enough"})

    assert (problem.what, problem.line) == (f"the variable {name} is not set", 3)


def test_a_name_that_could_be_a_short_key_is_not_repeated(desk: Desk) -> None:
    problem = desk.problem("model: {key_env: hunter2hush}", KEYS)

    assert problem.what == "the variable that is named here is not set"
    assert "hush" not in str(problem)


# -- URLs of operations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    ["/chat/completions", "/chat/completions/", "/completions", "/responses", "/models", "/embeddings", "/messages"],
)
@pytest.mark.parametrize("section", ["model: {%s}", "fallback_providers: [{model: m, %s}]"])
def test_the_url_of_one_operation_is_told_to_be_cut(desk: Desk, section: str, end: str) -> None:
    problem = desk.problem(section % f"provider: custom, base_url: 'https://hush.example/v1{end}'")

    assert f"not one that ends in {end.rstrip('/')}" in problem.what
    assert "leave off the end" in problem.remedy
    assert "hush" not in str(problem)


def test_the_native_url_of_ollama_is_told_where_its_chat_completions_lie(desk: Desk) -> None:
    problem = desk.problem("model: {provider: custom, base_url: 'http://localhost:11434/api/chat'}")

    assert "/v1" in problem.remedy


@pytest.mark.parametrize("url", ["http://h/v1", "http://h/models/qwen/v1", "http://h/chat-completions/v1"])
def test_other_urls_are_bases(desk: Desk, url: str) -> None:
    assert desk.accepted(f"model: {{provider: custom, base_url: '{url}'}}").config.model.base_url == url
