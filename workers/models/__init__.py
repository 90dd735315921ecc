"""Model providers: the OpenAI-compatible client and the embedded demo model, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping

from hermes_actors.config.model import ModelConfig
from workers.models.chat import ChatCompletions, Patiences
from workers.models.demo import DemoModel
from workers.models.provider import ModelProvider


def make_provider(config: ModelConfig, environment: Mapping[str, str], *, max_retries: int) -> ModelProvider:
    """The provider of the configured model. A chain of fallbacks will be one more provider, made here of several.

    Args:
        config: the ``model`` section, checked.
        environment: the variables that the configuration names.
        max_retries: ``agent.api_max_retries``.
    """
    if config.provider == "demo":
        return DemoModel(model=config.default)
    return ChatCompletions(
        name=config.provider if config.provider == "openai" else f"custom ({config.base_url})",
        model=config.default,
        base_url=config.base_url,
        key=environment[config.key_env] if config.key_env is not None else None,
        patiences=Patiences(
            connect=config.connect_timeout,
            first_token=config.first_token_timeout,
            inter_token=config.inter_token_timeout,
        ),
        max_retries=max_retries,
    )
