from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hermes_actors.config.model import Config, McpServer, ModelConfig, from_plain, to_plain

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
_SECONDS = st.floats(min_value=0.001, max_value=1e6)
_STDIO = st.fixed_dictionaries(
    {"command": _TEXT.filter(bool).map(lambda text: text.replace(" ", "-"))},
    optional={
        "args": st.lists(_TEXT, max_size=3),
        "env": st.dictionaries(st.sampled_from(["A", "B"]), _TEXT),
        "timeout": _SECONDS,
        "tools": st.fixed_dictionaries({}, optional={"include": st.lists(_TEXT), "exclude": st.lists(_TEXT)}),
    },
)
_HTTP = st.fixed_dictionaries({"url": st.just("https://h/mcp")}, optional={"headers": st.just({"A": "${B}"})})
_FALLBACK = st.fixed_dictionaries(
    {"model": _TEXT.filter(bool)},
    optional={"provider": st.sampled_from(["custom", "demo"]), "key_env": st.just("K")},
).map(lambda entry: {"base_url": "http://h/v1"} | entry)
_PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "fallback_providers": st.lists(_FALLBACK, max_size=3),
        "mcp_servers": st.dictionaries(st.sampled_from(["a", "b-c"]), _STDIO | _HTTP),
        "agent": st.fixed_dictionaries(
            {
                "system_prompt": st.none() | _TEXT,
                "max_turns": st.integers(1, 2**20),
                "compaction": st.just("off") | st.fixed_dictionaries({"at": st.floats(0.1, 0.95)}),
            }
        ),
        "supervisor": st.fixed_dictionaries({"workers": st.just("auto") | st.integers(1, 99), "shards": st.just(16)}),
        "api_server": st.fixed_dictionaries(
            {"keys": st.just({"bob": {"key_env": "B"}}), "port": st.integers(0, 65535)}
        ),
    },
)


@given(_PLAIN)
def test_a_configuration_survives_the_way_to_a_worker(plain: dict[str, Any]) -> None:
    config = from_plain(plain)

    arrived = from_plain(msgpack.unpackb(msgpack.packb(to_plain(config))))

    assert arrived == config
    assert to_plain(arrived) == to_plain(config)


def test_lists_arrive_as_tuples() -> None:
    config = Config(mcp_servers={"a": McpServer(command="x", args=("1", "2"))})

    assert from_plain(to_plain(config)).mcp_servers["a"].args == ("1", "2")


def test_what_is_no_configuration_of_this_release_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="Extra inputs") as caught:
        from_plain({"unknown": "hush"})

    assert "hush" not in str(caught.value)


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Config().agent.max_turns = 1  # type: ignore[misc]  # that it is frozen is the point


def test_a_section_made_in_code_is_checked_like_one_of_a_file() -> None:
    with pytest.raises(ValidationError, match="base_url"):
        ModelConfig(provider="custom")
