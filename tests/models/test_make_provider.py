from __future__ import annotations

from fakes.model_server import ModelServer

from hermes_actors.config.model import ModelConfig
from workers.models import make_provider
from workers.models.demo import DemoModel
from workers.models.provider import ModelReply, ModelRequest


async def test_the_demo_model_needs_nothing() -> None:
    provider = make_provider(ModelConfig(provider="demo", default="demo-1"), {}, max_retries=3)

    assert isinstance(provider, DemoModel)
    assert (provider.name, provider.model) == ("demo", "demo-1")


async def test_a_configured_endpoint_is_asked_with_its_key(server: ModelServer) -> None:
    config = ModelConfig(provider="custom", default="m", base_url=server.base_url, key_env="THE_KEY")
    provider = make_provider(config, {"THE_KEY": "secret-key"}, max_retries=0)

    reply = await provider.complete(
        ModelRequest(messages=[b'{"role":"user","content":"Hi"}'], tools=b""), lambda _: None
    )
    await provider.close()

    assert isinstance(reply, ModelReply)
    assert server.last.headers["Authorization"] == "Bearer secret-key"
    assert server.last.body["model"] == provider.model == "m"


async def test_an_endpoint_without_key_gets_no_authorization(server: ModelServer) -> None:
    provider = make_provider(ModelConfig(provider="custom", base_url=server.base_url), {}, max_retries=0)

    await provider.complete(ModelRequest(messages=[b'{"role":"user","content":"Hi"}'], tools=b""), lambda _: None)
    await provider.close()

    assert "Authorization" not in server.last.headers


def test_a_provider_names_itself_for_people() -> None:
    custom = ModelConfig(provider="custom", base_url="https://example.com:8443/v1")
    openai = ModelConfig(provider="openai", key_env="THE_KEY")

    assert make_provider(custom, {}, max_retries=0).name == "custom (https://example.com:8443/v1)"
    assert make_provider(openai, {"THE_KEY": "secret-key"}, max_retries=0).name == "openai"
