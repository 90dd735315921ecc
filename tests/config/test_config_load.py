from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from fakes.config_desk import KEYS, Desk
from hypothesis import given
from hypothesis import strategies as st

from hermes_actors.config.load import ConfigError, ensure_demo_key, load, summary
from hermes_actors.config.model import (
    AgentSection,
    ApiServerConfig,
    Config,
    FallbackProvider,
    McpServer,
    ModelConfig,
    SupervisorConfig,
    ToolFilter,
)
from hermes_actors.home import Home


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk.at(tmp_path / "home")


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_home_without_config_yaml_has_all_defaults(desk: Desk) -> None:
    assert desk.load().config == Config()


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n", "agent:\nmodel:\n"])
def test_an_empty_file_and_empty_sections_have_all_defaults(desk: Desk, text: str) -> None:
    assert desk.accepted(text).config == Config()


def test_a_byte_order_mark_is_no_part_of_the_text(desk: Desk) -> None:
    desk.write(b"\xef\xbb\xbfagent: {max_turns: 7}\n")

    assert desk.load().config.agent.max_turns == 7


def test_a_file_named_with_config_must_exist(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: there is no such file"):
        desk.load(config=tmp_path / "gone.yaml")


def test_where_there_is_no_file_a_failure_says_so_and_names_the_demo(tmp_path: Path) -> None:
    home = Home(tmp_path)

    with pytest.raises(ConfigError) as caught:
        load(home, config_path=None, environ={}, demo=False)

    first = caught.value.problems[0]
    assert (first.file, first.what) == (str(home.config), "there is no such file")
    assert "hermes-supervisor start --demo" in first.remedy


def test_a_file_named_with_config_is_read_instead_of_the_one_of_the_home(desk: Desk, tmp_path: Path) -> None:
    desk.write("agent: {max_turns: 1}")
    (tmp_path / "other.yaml").write_text("agent: {max_turns: 2}")

    assert desk.load(config=tmp_path / "other.yaml").config.agent.max_turns == 2


def test_a_directory_in_place_of_the_file_is_a_problem(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        desk.load(config=tmp_path)


def test_a_file_that_is_not_utf8_is_a_problem_with_its_line(desk: Desk) -> None:
    problem = desk.problem(b"agent:\n  system_prompt: gr\xfc\xdfe\n")

    assert (problem.what, problem.line) == ("not UTF-8", 2)


def test_a_huge_file_is_refused(desk: Desk) -> None:
    assert "larger than" in desk.problem(b"#" * 2_000_000).what


@given(raw=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_bytes_the_files_hold_loading_them_raises_nothing_but_config_errors(
    tmp_path: Path, raw: bytes
) -> None:
    home = Home(tmp_path)
    for file in (home.config, home.env):
        file.write_bytes(raw)
        file.chmod(0o600)

    with suppress(ConfigError):
        load(home, config_path=None, environ=KEYS, demo=False)


_YAML_PIECES = [
    "model",
    "agent",
    "mcp_servers",
    "a",
    ": ",
    ":\n",
    "\n",
    "  ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "<<",
    "!!int",
]
_YAML_PIECES += [
    "&x ",
    "*x",
    "!y ",
    "1",
    "-",
    ".inf",
    "'",
    '"',
    "\\U99999999",
    "|",
    "? ",
    "#",
    "\t",
    "---",
    "2026-01-02",
]


@given(text=st.lists(st.sampled_from(_YAML_PIECES), max_size=20).map("".join))
def test_whatever_yaml_the_file_holds_loading_it_raises_nothing_but_config_errors(tmp_path: Path, text: str) -> None:
    home = Home(tmp_path)
    home.config.write_text(text)

    with suppress(ConfigError):
        load(home, config_path=None, environ=KEYS, demo=False)


_SECTIONS = (ModelConfig, FallbackProvider, McpServer, ToolFilter, AgentSection, SupervisorConfig, ApiServerConfig)
_KEYS = st.sampled_from(sorted({key for section in _SECTIONS for key in section.model_fields} | {"other", "a b"}))
_VALUES: st.SearchStrategy[object] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["openai", "custom"]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(_KEYS, below, max_size=3),
    max_leaves=8,
)


@given(plain=st.dictionaries(st.sampled_from(sorted(Config.model_fields)), _VALUES, max_size=4), demo=st.booleans())
def test_whatever_stands_under_known_keys_loading_it_raises_nothing_but_config_errors(
    tmp_path: Path, plain: dict[str, object], demo: bool
) -> None:
    home = Home(tmp_path)
    home.config.write_text(yaml.safe_dump(plain))

    with suppress(ConfigError):
        load(home, config_path=None, environ=KEYS, demo=demo)


# -- what an operator is told -----------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_in_the_order_of_the_file(desk: Desk) -> None:
    desk.write_env("API_SERVER_KEY=long-enough-key\nnot an assignment\n", mode=0o644)

    problems = desk.problems(
        """\
        agent:
          max_turn: 5
        supervisor: {shards: 12}
        admin: {port: 1, port: 2}
        fallback_providers:
          - {model: m, provider: openai, key_env: NOT_THERE}
        """,
        {"OPENAI_API_KEY": "sk-0"},
    )

    assert [(Path(p.file).name, p.line, p.key) for p in problems] == [
        ("config.yaml", 2, "agent.max_turn"),
        ("config.yaml", 3, "supervisor.shards"),
        ("config.yaml", 4, "admin.port"),
        ("config.yaml", 6, "fallback_providers.0.key_env"),
        (".env", None, ""),
        (".env", 2, ""),
    ]


def test_the_text_of_an_error_has_place_key_problem_and_remedy(desk: Desk) -> None:
    desk.write("agent:\n  max_turn: 5\n")

    with pytest.raises(ConfigError) as caught:
        desk.load()

    assert str(caught.value).splitlines() == [
        "configuration: 1 problem",
        f"{desk.home.config}:2: agent.max_turn: unknown key",
        "    did you mean max_turns?",
    ]


def test_control_characters_of_the_file_do_not_reach_the_terminal(desk: Desk) -> None:
    assert "\x1b" not in str(desk.problem('"\\e[31m": 1'))


def test_a_broken_section_does_not_add_problems_that_only_follow_from_it(desk: Desk) -> None:
    (problem,) = desk.problems("api_servr: {port: 1}\n", {"OPENAI_API_KEY": "sk-0"})

    assert problem.key == "api_servr"
    assert problem.remedy == "did you mean api_server?"


# -- .env and the environment -----------------------------------------------------------------------------------------


def test_variables_of_the_home_are_used(desk: Desk) -> None:
    desk.write_env("OPENAI_API_KEY=sk-file\nAPI_SERVER_KEY=key-of-the-file\n")

    settings = desk.load({})

    assert settings.environment == {"OPENAI_API_KEY": "sk-file", "API_SERVER_KEY": "key-of-the-file"}
    assert settings.api_keys == {"default": "key-of-the-file"}


def test_a_byte_order_mark_is_no_part_of_the_first_variable(desk: Desk) -> None:
    desk.write_env("\ufeffOPENAI_API_KEY=sk-file\n")

    assert desk.load({"API_SERVER_KEY": "long-enough"}).environment["OPENAI_API_KEY"] == "sk-file"


def test_the_process_environment_wins_over_the_home(desk: Desk) -> None:
    desk.write_env("OPENAI_API_KEY=sk-file\n")

    assert desk.load().environment["OPENAI_API_KEY"] == KEYS["OPENAI_API_KEY"]


@pytest.mark.parametrize("mode", [0o666, 0o622, 0o602, 0o620, 0o664, 0o777])
def test_a_configuration_that_others_may_write_is_refused_with_the_way_out(desk: Desk, mode: int) -> None:
    desk.write("agent: {max_turns: 7}\n")
    desk.home.config.chmod(mode)

    with pytest.raises(ConfigError) as caught:
        desk.load()

    (problem,) = caught.value.problems
    assert problem.what == "others than its owner may write it, and it decides which programs run here"
    assert problem.remedy == f"chmod go-w {desk.home.config}"


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o444])
def test_a_configuration_that_others_may_read_is_believed(desk: Desk, mode: int) -> None:
    desk.write("agent: {max_turns: 7}\n")
    desk.home.config.chmod(mode)

    assert desk.load().config.agent.max_turns == 7


def test_a_file_named_with_config_that_others_may_write_is_refused_too(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("")
    other.chmod(0o666)

    with pytest.raises(ConfigError, match="chmod go-w"):
        desk.load(config=other)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
@pytest.mark.parametrize("name", ["config.yaml", ".env"])
def test_root_does_not_believe_a_file_of_another_user(desk: Desk, name: str) -> None:
    desk.write("")
    file = desk.home.root / name
    file.write_text("")
    file.chmod(0o600)
    os.chown(file, 4711, 4711)

    with pytest.raises(ConfigError) as caught:
        desk.load()

    (problem,) = caught.value.problems
    assert "belongs to another user (4711)" in problem.what
    assert problem.file == str(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can give files away")
def test_root_may_check_the_configuration_of_another_users_home(desk: Desk) -> None:
    desk.write("agent: {max_turns: 7}\n")
    for path in (desk.home.root, desk.home.config):
        os.chown(path, 4711, 4711)

    assert desk.load().config.agent.max_turns == 7


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_dotenv_that_others_may_open_is_a_problem_with_the_way_out(desk: Desk, mode: int) -> None:
    desk.write_env("X=1\n", mode=mode)

    (problem,) = desk.problems("")

    assert problem.file == str(desk.home.env)
    assert problem.remedy == f"chmod 600 {desk.home.env}"


def test_only_variables_that_the_configuration_names_are_kept(desk: Desk) -> None:
    settings = desk.accepted(
        """\
        mcp_servers:
          files: {command: npx, args: ["${ROOT}"], env: {A: "${env:TOKEN}"}}
        """,
        KEYS | {"ROOT": "/srv", "TOKEN": "t", "UNRELATED": "u"},
    )

    assert settings.environment == KEYS | {"ROOT": "/srv", "TOKEN": "t"}


def test_secrets_do_not_show_in_settings(desk: Desk) -> None:
    settings = desk.accepted(
        """\
        mcp_servers:
          a: {command: x, args: [hush-arg], env: {T: hush-env}}
          b: {url: "https://h/?k=hush-url", headers: {A: hush-header}}
        """,
        {"OPENAI_API_KEY": "hush-model", "API_SERVER_KEY": "hush-caller"},
    )

    assert "hush" not in f"{settings!r} {settings} {settings.config!r} {settings.config} {summary(settings)}"


def test_a_summary_says_what_will_run(desk: Desk) -> None:
    settings = desk.accepted(
        """\
        fallback_providers: [{model: qwen3, base_url: "http://localhost:8000/v1"}]
        mcp_servers:
          files: {command: npx, required: true}
          web: {url: "https://h/mcp", scope: worker}
          old: {command: x, enabled: false}
        api_server: {host: "::1", port: 0}
        store: {durability: process}
        """
    )

    assert summary(settings) == [
        ("model", "openai gpt-5-mini at https://api.openai.com/v1, key from OPENAI_API_KEY"),
        ("fallback", "custom qwen3 at http://localhost:8000/v1, no key"),
        ("MCP server files", "stdio, npx, one per session, required"),
        ("MCP server web", "streamable HTTP, one per worker"),
        ("MCP server old", "disabled"),
        ("API", "http://[::1]:<any free port>, callers: default"),
        ("supervisor", "workers: auto, shards: auto"),
        ("store", "commits survive the death of processes, not power loss"),
    ]


# -- demo -------------------------------------------------------------------------------------------------------------


def test_a_demo_needs_no_file_no_keys_and_no_home(tmp_path: Path) -> None:
    home = Home(tmp_path / "new" / "home")

    settings = load(home, config_path=None, environ={}, demo=True)

    assert settings.config.model.provider == "demo"
    assert len(settings.api_keys["default"]) >= 32
    assert home.env.stat().st_mode & 0o777 == 0o600
    assert home.root.stat().st_mode & 0o777 == 0o700


def test_a_demo_keeps_its_key(desk: Desk) -> None:
    assert desk.load({}, demo=True).api_keys == desk.load({}, demo=True).api_keys == desk.load({}, demo=True).api_keys


def test_a_demo_without_demo_flag_finds_the_key_too(desk: Desk) -> None:
    made = ensure_demo_key(desk.home, {})

    assert desk.load({"OPENAI_API_KEY": "sk-0"}).api_keys == {"default": made}


def test_making_a_demo_key_keeps_the_other_lines(desk: Desk) -> None:
    desk.write_env("# mine\nexport A='b c'\nAPI_SERVER_KEY=\n\n")

    made = ensure_demo_key(desk.home, {})

    assert desk.home.env.read_text() == f"# mine\nexport A='b c'\nAPI_SERVER_KEY={made}\n"
    assert {file.name for file in desk.home.root.iterdir()} <= {".env", ".env.lock"}


def test_demos_that_start_at_once_on_one_home_have_one_key(desk: Desk) -> None:
    with ThreadPoolExecutor(4) as demos:
        made = [demos.submit(ensure_demo_key, desk.home, {}) for _ in range(4)]

    assert len({one.result() for one in made}) == 1


def test_a_configured_key_is_used_by_a_demo_and_nothing_is_written(desk: Desk) -> None:
    assert desk.load({"API_SERVER_KEY": "of-the-environment"}, demo=True).api_keys == {"default": "of-the-environment"}
    assert not desk.home.env.exists()


def test_a_demo_takes_the_provider_that_the_file_names(desk: Desk) -> None:
    assert desk.accepted("model: {provider: openai}", demo=True).config.model.provider == "openai"
    assert desk.accepted("model: {default: other}", demo=True).config.model.provider == "demo"


def test_a_demo_does_not_excuse_a_missing_variable_that_the_file_names(desk: Desk) -> None:
    (problem,) = desk.problems("api_server: {key_env: MY_KEY}", {}, demo=True)

    assert problem.key == "api_server.key_env"


def test_a_demo_key_that_cannot_be_kept_is_a_problem_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")

    with pytest.raises(ConfigError, match="API key cannot be kept here"):
        load(Home(tmp_path / "home"), config_path=None, environ={}, demo=True)
