from __future__ import annotations

from typing import Any

import pytest
from fakes.model_server import ModelServer, refuse

from hermes_actors.config.model import (
    AgentSection,
    Config,
    FallbackProvider,
    McpServer,
    ModelConfig,
    from_plain,
    to_plain,
)
from workers.models import make_chain, make_provider
from workers.models.demo import DemoModel
from workers.models.provider import ModelReply, ModelRequest


async def test_the_demo_model_needs_nothing() -> None:
    provider = make_provider(ModelConfig(provider="demo", default="demo-1"), {}, max_retries=3)

    assert isinstance(provider, DemoModel)
    assert (provider.name, provider.model) == ("demo", "demo-1")


async def test_a_configured_endpoint_is_asked_with_its_key(server: ModelServer) -> None:
    config = ModelConfig(provider="custom", default="m", base_url=server.base_url, key_env="THE_KEY")
    provider = make_provider(config, {"THE_KEY": "secret-key"}, max_retries=0)

    reply = await provider.complete(ModelRequest(messages=[b'{"role":"user","content":"Hi"}']), lambda _: None)
    await provider.close()

    assert isinstance(reply, ModelReply)
    assert server.last.headers["Authorization"] == "Bearer secret-key"
    assert server.last.body["model"] == provider.model == "m"


async def test_an_endpoint_without_key_gets_no_authorization(server: ModelServer) -> None:
    provider = make_provider(ModelConfig(provider="custom", base_url=server.base_url), {}, max_retries=0)

    await provider.complete(ModelRequest(messages=[b'{"role":"user","content":"Hi"}']), lambda _: None)
    await provider.close()

    assert "Authorization" not in server.last.headers


def test_a_provider_names_itself_for_people() -> None:
    custom = ModelConfig(provider="custom", base_url="https://example.com:8443/v1")
    openai = ModelConfig(provider="openai", key_env="THE_KEY")

    assert make_provider(custom, {}, max_retries=0).name == "custom (https://example.com:8443/v1)"
    assert make_provider(openai, {"THE_KEY": "secret-key"}, max_retries=0).name == "openai"


async def test_a_chain_asks_each_provider_at_its_url_with_its_key_for_its_model(server: ModelServer) -> None:
    async with ModelServer() as other:
        config = Config(
            model=ModelConfig(provider="custom", default="one", base_url=server.base_url, key_env="KEY_ONE"),
            fallback_providers=(
                FallbackProvider(model="two", base_url=other.base_url, key_env="KEY_TWO"),
                FallbackProvider(model="three", base_url=other.base_url),
                FallbackProvider(provider="demo", model="four"),
            ),
            agent=AgentSection(api_max_retries=1),
        )
        server.script(refuse(500), refuse(500))
        other.script(refuse(401), refuse(401))
        chain = make_chain(config, {"KEY_ONE": "secret-one", "KEY_TWO": "secret-two"})

        reply = await chain.line().complete(ModelRequest(messages=[b'{"role":"user","content":"Hi"}']), lambda _: None)
        await chain.close()

        asked = [(got.body["model"], got.headers.get("Authorization")) for got in (*server.requests, *other.requests)]
        assert asked == [
            ("one", "Bearer secret-one"),
            ("one", "Bearer secret-one"),
            ("two", "Bearer secret-two"),
            ("three", None),
        ]
        assert isinstance(reply, ModelReply)
        assert (reply.provider, reply.model, reply.fallback) == ("demo", "four", 3)


CHAIN = Config(
    model=ModelConfig(provider="custom", default="one", base_url="http://127.0.0.1:1/v1", key_env="KEY_ONE"),
    fallback_providers=(FallbackProvider(model="two", base_url="http://127.0.0.1:2/v1", key_env="KEY_TWO"),),
)
KEYS = {"KEY_ONE": "secret-one", "KEY_TWO": "secret-two"}


def test_a_chain_is_kept_where_nothing_of_it_has_changed() -> None:
    before = make_chain(CHAIN, KEYS)
    other = {"agent": AgentSection(system_prompt="be brief"), "mcp_servers": {"a": McpServer(command="b")}}

    after = make_chain(from_plain(to_plain(CHAIN.model_copy(update=other))), {**KEYS, "OTHER": "x"}, before=before)

    assert after is before


@pytest.mark.parametrize(
    ("update", "keys"),
    [
        ({"model": CHAIN.model.model_copy(update={"inter_token_timeout": 3.0})}, KEYS),
        ({"fallback_providers": ()}, KEYS),
        ({"agent": AgentSection(api_max_retries=7)}, KEYS),
        ({}, {**KEYS, "KEY_ONE": "secret-new"}),
        ({}, {**KEYS, "KEY_TWO": "secret-new"}),
    ],
    ids=["model", "fallbacks", "retries", "key", "key of a fallback"],
)
def test_a_chain_of_which_something_has_changed_is_made_anew(update: dict[str, Any], keys: dict[str, str]) -> None:
    before = make_chain(CHAIN, KEYS)

    assert make_chain(CHAIN.model_copy(update=update), keys, before=before) is not before


async def test_the_time_outs_of_the_primary_are_not_those_of_a_fallback(server: ModelServer) -> None:
    config = Config(
        model=ModelConfig(provider="custom", base_url=server.base_url, first_token_timeout=0.02),
        fallback_providers=(FallbackProvider(model="slow", base_url=server.base_url),),
        agent=AgentSection(api_max_retries=0),
    )
    chain = make_chain(config, {})

    reply = await chain.line().complete(
        ModelRequest(messages=[b'{"role":"user","content":"[[slow:100]]"}']), lambda _: None
    )
    await chain.close()

    assert isinstance(reply, ModelReply)
    assert (reply.text, reply.fallback) == ("pong", 1)
