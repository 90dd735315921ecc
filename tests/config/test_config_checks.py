from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fakes.config_desk import KEYS, Desk
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.model import Compaction, Config


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.at(tmp_path / "home")


# -- keys and types ---------------------------------------------------------------------------------------------------


@given(
    section=st.sampled_from(["", "model", "agent", "supervisor", "sessions", "api_server", "admin", "store"]),
    name=st.from_regex(r"[a-z_]{1,12}x", fullmatch=True),
    above=st.integers(0, 3),
)
def test_an_unknown_key_is_named_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, section: str, name: str, above: int
) -> None:
    desk = Desk.at(tmp_path_factory.mktemp("unknown") / "home")
    lines = ["#"] * above + ([f"{section}:", f"  {name}: 1"] if section else [f"{name}: 1"])

    problem = desk.problem("\n".join(lines))

    assert problem.what == "unknown key"
    assert problem.key == (f"{section}.{name}" if section else name)
    assert problem.line == len(lines)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("modle: {}", "model"),
        ("ADMIN: {}", "admin"),
        ("agent: {maxTurns: 1}", "max_turns"),
        ("agent: {max-turns: 1}", "max_turns"),
        ("mcp_servers: {tools: {command: x, tool: {}}}", "tools"),
        ("mcp_servers: {env: {command: x, tools: {includes: []}}}", "include"),
        ("fallback_providers: [{model: m, base_url: 'http://h', keyenv: A}]", "key_env"),
        ("api_server: {keys: {bob: {key_env: A, keyenv: A}}}", "key_env"),
    ],
)
def test_an_unknown_key_gets_the_nearest_valid_name(desk: Desk, text: str, meant: str) -> None:
    assert desk.problem(text, KEYS | {"A": "long-enough"}).remedy == f"did you mean {meant}?"


def test_an_unknown_key_unlike_any_other_gets_the_list(desk: Desk) -> None:
    assert desk.problem("admin: {zzz: 1}").remedy == "known here: host, port"


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("agent: {max_turns: soon}", "agent.max_turns", "expected a whole number, got the text 'soon'"),
        ("agent: {max_turns: true}", "agent.max_turns", "expected a whole number, got true"),
        ("agent: {max_turns: 1.5}", "agent.max_turns", "expected a whole number, got 1.5"),
        ("agent: {max_turns: 0}", "agent.max_turns", "expected at least 1, got 0"),
        ("agent: {max_turns: }", "agent.max_turns", "expected a whole number, got nothing"),
        ("agent: {restart_drain_timeout: -1}", "agent.restart_drain_timeout", "expected at least 0, got -1"),
        ("agent: {system_prompt: 12}", "agent.system_prompt", "expected text, got a number"),
        ("model: {connect_timeout: .inf}", "model.connect_timeout", "expected a finite number, got inf"),
        ("model: {connect_timeout: 0}", "model.connect_timeout", "expected more than 0, got 0"),
        ("model: {connect_timeout: yes}", "model.connect_timeout", "expected a number, got true"),
        ("model: {default: ''}", "model.default", "expected text that is not empty"),
        ("model: []", "model", "expected keys with values below it, got a list"),
        ("mcp_servers: []", "mcp_servers", "expected names with entries below it, got a list"),
        ("fallback_providers: {}", "fallback_providers", "expected a list"),
        ("fallback_providers: [{base_url: 'http://h'}]", "fallback_providers.0.model", "this key is required"),
        ("supervisor: {workers: many}", "supervisor.workers", "expected a whole number or 'auto', got the text 'many'"),
        (
            "store: {durability: maybe}",
            "store.durability",
            "expected 'power_loss' or 'process', got the text 'maybe'",
        ),
        (
            "mcp_servers: {a: {command: npx -y x}}",
            "mcp_servers.a.command",
            "expected a program alone, without arguments",
        ),
        ("mcp_servers: {a: {command: x, required: 1}}", "mcp_servers.a.required", "expected true or false, got 1"),
        ("api_server: {port: 65536}", "api_server.port", "expected at most 65535, got 65536"),
        ("model: {context_length: 255}", "model.context_length", "expected at least 256, got 255"),
        ("model: {context_length: 8k}", "model.context_length", "expected a whole number, got the text '8k'"),
        ("model: {vision: 'no'}", "model.vision", "expected true or false, got the text 'no'"),
        ("agent: {compaction: on}", "agent.compaction", "expected keys with values below it, or off, got true"),
        ("agent: {compaction: never}", "agent.compaction", "expected keys with values below it, or off"),
        ("agent: {compaction: }", "agent.compaction", "expected keys with values below it, or off, got nothing"),
        ("agent: {compaction: {at: 0.05}}", "agent.compaction.at", "expected at least 0.1, got 0.05"),
        ("agent: {compaction: {at: 80}}", "agent.compaction.at", "expected at most 0.95, got 80"),
        ("agent: {compaction: {keep_turns: 0}}", "agent.compaction.keep_turns", "expected at least 1, got 0"),
        ("agent: {compaction: {keep_turns: 101}}", "agent.compaction.keep_turns", "expected at most 100, got 101"),
        ("agent: {compaction: {keep: 1}}", "agent.compaction.keep", "unknown key"),
        (
            "mcp_servers: {a: {command: x, on_stop: kill}}",
            "mcp_servers.a.on_stop",
            "expected 'cancel' or 'end', got the text 'kill'",
        ),
        ("mcp_servers: {a: {command: x, resources: 1}}", "mcp_servers.a.resources", "expected true or false, got 1"),
        (
            "mcp_servers: {a: {command: x, tools: {max_description: 63}}}",
            "mcp_servers.a.tools.max_description",
            "expected at least 64, got 63",
        ),
        (
            "api_server: {max_body_bytes: 99999999}",
            "api_server.max_body_bytes",
            "expected at most 15728640, got 99999999",
        ),
    ],
)
def test_a_wrong_value_is_told_with_what_was_expected_and_what_came(desk: Desk, text: str, key: str, what: str) -> None:
    problem = desk.problem(text)

    assert (problem.key, problem.what, problem.line) == (key, what, 1)


def test_whole_numbers_are_accepted_where_seconds_are_wanted(desk: Desk) -> None:
    assert desk.accepted("sessions: {idle_ttl_seconds: 60}").config.sessions.idle_ttl_seconds == 60.0


def test_a_value_that_may_be_a_secret_is_not_repeated(desk: Desk) -> None:
    problems = desk.problems(
        """\
        model: {key_env: "sk-hush", base_url: "https://me:hush@host/v1"}
        mcp_servers: {a: {url: "http://hush hush/", headers: {A: 42424242}}, b: {command: x, env: {PIN: 42424242}}}
        """
    )

    assert len(problems) == 5
    assert not [str(problem) for problem in problems if "hush" in str(problem) or "42424242" in str(problem)]


def test_a_value_that_yaml_cannot_make_is_told_once(desk: Desk) -> None:
    assert desk.problem("agent: {max_turns: !!int soon}").what == "not a valid int"


def test_a_name_and_what_stands_under_it_are_two_problems(desk: Desk) -> None:
    problems = desk.problems('mcp_servers: {a: {url: "http://h", headers: {"X y": "two\\nlines"}}}')

    assert [problem.what.split(" (")[0].split(":")[0] for problem in problems] == [
        "expected an HTTP header name",
        "expected an HTTP header value",
    ]


@pytest.mark.parametrize("off", ["off", "false", '"off"', "OFF", "no"])
def test_compaction_is_off_however_yaml_reads_the_word(desk: Desk, off: str) -> None:
    assert desk.accepted(f"agent: {{compaction: {off}}}").config.agent.compaction is None


def test_compaction_has_defaults_for_what_is_not_given(desk: Desk) -> None:
    assert desk.accepted("agent: {compaction: {at: 0.5}}").config.agent.compaction == Compaction(at=0.5, keep_turns=6)
    assert desk.accepted("agent: {}").config.agent.compaction == Compaction(at=0.8, keep_turns=6)


# -- sections ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry",
    ["{}", "{command: x, url: 'http://h'}", "{command: x, headers: {A: b}}", "{url: 'http://h', args: [a]}"],
)
def test_a_server_has_one_transport_and_only_its_keys(desk: Desk, entry: str) -> None:
    assert desk.problem(f"\nmcp_servers:\n  one: {entry}\n").line == 3


@pytest.mark.parametrize("name", ["a__b", "__", "a b", "a.b", "ä", "a" * 65, '""'])
def test_a_server_name_that_makes_no_tool_name_is_refused(desk: Desk, name: str) -> None:
    assert "expected a server name" in desk.problem(f"mcp_servers: {{{name}: {{command: x}}}}").what


@pytest.mark.parametrize("name", ["a_b", "-", "A-9", "1", "a" * 64])
def test_a_server_name_that_makes_a_tool_name_is_accepted(desk: Desk, name: str) -> None:
    assert list(desk.accepted(f"mcp_servers: {{{name}: {{command: x}}}}").config.mcp_servers) == [name]


@pytest.mark.parametrize("name", ["a:b", "a b", "ä", "a" * 65, '""'])
def test_a_principal_name_that_would_break_session_keys_is_refused(desk: Desk, name: str) -> None:
    text = f"api_server: {{keys: {{{name}: {{key_env: API_SERVER_KEY}}}}}}"

    assert "expected a principal name" in desk.problem(text).what


_BAD_URLS = [
    "",
    "localhost:8000",
    "ftp://h/",
    "http://",
    "http:///v1",
    "http://h:x/",
    "http://h:99999/",
    "https://u@h/",
]
_BAD_URLS += ["https://u:p@h/", "http://a b/", "http://h/a b", " http://h", "http://[::1/", "http://h/v1\\n", "//h/v1"]


@pytest.mark.parametrize("url", _BAD_URLS)
def test_a_url_that_is_none_is_refused(desk: Desk, url: str) -> None:
    problems = desk.problems(
        f"""\
        model: {{provider: custom, base_url: "{url}"}}
        fallback_providers: [{{model: m, base_url: "{url}"}}]
        mcp_servers: {{a: {{url: "{url}", enabled: false}}}}
        """
    )

    assert [problem.key for problem in problems] == [
        "model.base_url",
        "fallback_providers.0.base_url",
        "mcp_servers.a.url",
    ]


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "https://[::1]:8/v1", "http://10.0.0.1", "HTTPS://Bücher.de/"]
)
def test_a_url_with_a_host_is_accepted(desk: Desk, url: str) -> None:
    assert desk.accepted(f'model: {{provider: custom, base_url: "{url}"}}').config.model.base_url == url


@pytest.mark.parametrize("url", ["http://${HOST}/v1", "http://h/v1?x=1", "http://h/v1#x"])
def test_a_base_url_is_taken_as_it_is_and_must_bear_a_path_behind_it(desk: Desk, url: str) -> None:
    assert desk.problem(f"model: {{provider: custom, base_url: '{url}'}}").key == "model.base_url"


@pytest.mark.parametrize("shards", [8, 64, 4096])
def test_a_power_of_two_is_a_number_of_shards(desk: Desk, shards: int) -> None:
    assert desk.accepted(f"supervisor: {{shards: {shards}}}").config.supervisor.shards == shards


@pytest.mark.parametrize("shards", [0, 1, 4, 12, 8192])
def test_another_number_of_shards_is_refused(desk: Desk, shards: int) -> None:
    assert "a power of two from 8" in desk.problem(f"supervisor: {{shards: {shards}}}").what


def test_two_listeners_do_not_share_a_port(desk: Desk) -> None:
    assert desk.problem("api_server: {port: 9000}\nadmin: {port: 9000}").line == 2
    assert desk.accepted("api_server: {port: 0}\nadmin: {port: 0}")


# -- keys of models ---------------------------------------------------------------------------------------------------


def test_openai_takes_its_usual_variable(desk: Desk) -> None:
    settings = desk.accepted("fallback_providers: [{provider: openai, model: m}]")

    assert settings.config.model.key_env == "OPENAI_API_KEY"
    assert settings.config.fallback_providers[0].key_env == "OPENAI_API_KEY"
    assert settings.config.fallback_providers[0].base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("value", "what"), [(None, "is not set"), ("", "is empty"), ("a b", "must hold"), ("ä", "must")]
)
def test_a_model_key_that_is_missing_or_fits_no_header_is_a_problem(desk: Desk, value: str | None, what: str) -> None:
    environ = {"API_SERVER_KEY": "long-enough"} | ({} if value is None else {"OPENAI_API_KEY": value})

    problem = desk.problem("model: {default: m}", environ)

    assert problem.key == "model.key_env"
    assert what in problem.what


def test_a_custom_provider_may_have_no_key(desk: Desk) -> None:
    settings = desk.accepted("model: {provider: custom, base_url: 'http://h'}", {"API_SERVER_KEY": "long-enough"})

    assert settings.config.model.key_env is None


def test_the_demo_model_wants_no_variable(desk: Desk) -> None:
    assert desk.accepted("model: {provider: demo, key_env: GONE}", {"API_SERVER_KEY": "long-enough"})


@pytest.mark.parametrize("text", ["model: {provider: custom}", "fallback_providers: [{model: m}]"])
def test_a_custom_provider_must_say_where_it_is(desk: Desk, text: str) -> None:
    assert "base_url" in desk.problem(text).what


def test_openai_cannot_go_without_a_key(desk: Desk) -> None:
    assert "key_env" in desk.problem("model: {provider: openai, key_env: null}").what


def test_the_key_of_openai_goes_to_no_other_fallback_unless_it_is_named(desk: Desk) -> None:
    entry = "fallback_providers: [{provider: openai, model: m, base_url: 'https://other/v1'%s}]"

    assert desk.problem(entry % "").what == "expected key_env beside a base_url of its own"
    assert desk.accepted(entry % ", key_env: A", KEYS | {"A": "long-enough"})


# -- keys of callers --------------------------------------------------------------------------------------------------

_TWO = "api_server: {keys: {alice: {key_env: A}, bob: {key_env: B}}}"


def test_callers_are_known_by_their_keys(desk: Desk) -> None:
    settings = desk.accepted(_TWO, KEYS | {"A": "alices-key", "B": "bobs-own-key"})

    assert settings.api_keys == {"alice": "alices-key", "bob": "bobs-own-key"}


def test_a_key_env_beside_keys_is_the_default_caller(desk: Desk) -> None:
    settings = desk.accepted("api_server: {key_env: A, keys: {bob: {key_env: B}}}", KEYS | {"A": "a" * 8, "B": "b" * 8})

    assert settings.api_keys == {"default": "a" * 8, "bob": "b" * 8}


def test_two_callers_with_one_key_are_refused(desk: Desk) -> None:
    problem = desk.problem(_TWO, KEYS | {"A": "the-same-key", "B": "the-same-key"})

    assert problem.what == "bob and alice have the same key"


@pytest.mark.parametrize("key", ["short", "with a blank", "schlüssel-ä", "new\nline-new-line"])
def test_a_caller_key_that_is_short_or_fits_no_header_is_refused(desk: Desk, key: str) -> None:
    problem = desk.problem("", KEYS | {"API_SERVER_KEY": key})

    assert problem.key == "api_server.key_env"
    assert key not in str(problem)


@pytest.mark.parametrize(
    "text", ["api_server: {key_env: null}", "api_server: {key_env: A, keys: {default: {key_env: B}}}"]
)
def test_there_is_at_least_one_caller_and_one_key_for_each(desk: Desk, text: str) -> None:
    assert desk.problem(text, KEYS | {"A": "a" * 8, "B": "b" * 8}).key == "api_server"


def test_an_administrator_must_be_a_caller(desk: Desk) -> None:
    keys = KEYS | {"A": "a" * 8, "B": "b" * 8}

    problem = desk.problem(f"{_TWO[:-1]}, admins: [alice, eve]}}", keys)

    assert problem.key == "api_server.admins.1"
    assert "eve is no caller" in problem.what
    assert "alice, bob" in str(problem.remedy)


def test_the_only_caller_is_the_administrator_and_of_named_ones_nobody_is(desk: Desk) -> None:
    assert desk.accepted("", KEYS | {"API_SERVER_KEY": "s" * 8}).config.api_server.admins == ("default",)
    assert desk.accepted(_TWO, KEYS | {"A": "a" * 8, "B": "b" * 8}).config.api_server.admins == ()


# -- variables of servers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("{command: '${GONE}'}", "command"),
        ("{command: x, cwd: '${GONE}'}", "cwd"),
        ("{command: x, args: [a, '${env:GONE}']}", "args.1"),
        ("{command: x, env: {T: 'a${GONE}'}}", "env.T"),
        ("{url: 'https://${GONE}/mcp'}", "url"),
        ("{url: 'https://h/mcp', headers: {A: 'Bearer ${GONE}'}}", "headers.A"),
    ],
)
def test_a_variable_of_a_server_must_be_set_where_the_server_is_enabled(desk: Desk, entry: str, key: str) -> None:
    problem = desk.problem(f"mcp_servers:\n  a: {entry}\n")

    assert (problem.key, problem.what, problem.line) == (f"mcp_servers.a.{key}", "the variable GONE is not set", 2)
    assert desk.accepted(f"mcp_servers:\n  a: {entry[:-1]}, enabled: false}}\n")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("{url: '${V}'}", "ftp://h"),
        ("{url: 'https://h', headers: {A: '${V}'}}", "two\nlines"),
        ("{command: x, env: {A: '${V}'}}", "not utf-8 \udcff"),
        ("{command: x, args: ['${not a name}']}", ""),
    ],
)
def test_what_a_variable_makes_of_a_text_is_checked_too(desk: Desk, entry: str, value: str) -> None:
    problem = desk.problem(f"mcp_servers: {{a: {entry}}}", KEYS | {"V": value})

    assert problem.what.startswith("expected ")
    assert not value or value not in str(problem)


def test_an_escaped_reference_names_no_variable(desk: Desk) -> None:
    assert desk.accepted("mcp_servers: {a: {command: x, args: ['$${GONE}']}}").environment == KEYS


# -- the whole --------------------------------------------------------------------------------------------------------


def test_what_to_plain_gives_is_a_file_that_loads_to_the_same(desk: Desk) -> None:
    assert desk.accepted(yaml.safe_dump(Config().model_dump(mode="json"))).config == Config()
