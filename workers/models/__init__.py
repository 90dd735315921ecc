"""Model providers: the OpenAI-compatible client and the embedded demo model, and chains of them with fallbacks."""

from __future__ import annotations

from collections.abc import Mapping

from hermes_actors.config.model import Config, ModelConfig, ModelEndpoint
from workers.models.chain import ModelChain
from workers.models.chat import ChatCompletions
from workers.models.demo import DemoModel
from workers.models.exchange import Timeouts
from workers.models.limits import MAX_LESSONS
from workers.models.provider import ModelProvider


def make_chain(config: Config, environment: Mapping[str, str], *, before: ModelChain | None = None) -> ModelChain:
    """The configured model and its fallbacks, each with its own URL and key.

    A fallback has the time-outs that ``model`` has by default: those configured there are about that model.

    Args:
        config: checked.
        environment: the variables that the configuration names.
        before: kept, with what it knows of its providers, where none of them has changed.
    """
    retries = config.agent.api_max_retries
    endpoints = (config.model, *config.fallback_providers)
    keys = [environment.get(endpoint.key_env) for endpoint in endpoints if endpoint.key_env is not None]
    made_of = (endpoints, keys, retries)
    if before is not None and before.made_of == made_of:
        return before
    primary = make_provider(config.model, environment, max_retries=retries)
    fallbacks = (
        provider_of(entry, entry.model, environment, max_retries=retries) for entry in config.fallback_providers
    )
    return ModelChain([primary, *fallbacks], made_of=made_of)


def make_provider(config: ModelConfig, environment: Mapping[str, str], *, max_retries: int) -> ModelProvider:
    """The provider of the primary model alone.

    Args:
        config: the ``model`` section, checked.
        environment: the variables that the configuration names.
        max_retries: ``agent.api_max_retries``.
    """
    return provider_of(config, config.default, environment, max_retries=max_retries)


def provider_of(
    endpoint: ModelEndpoint,
    model: str,
    environment: Mapping[str, str],
    *,
    max_retries: int,
    max_lessons: int = MAX_LESSONS,
) -> ModelProvider:
    """One provider of the configuration.

    Args:
        endpoint: the ``model`` section or a fallback, checked.
        model: its model's id.
        environment: the variables that the configuration names.
        max_retries: ``agent.api_max_retries``.
        max_lessons: how often one request is made once more without what was refused.
    """
    if endpoint.provider == "demo":
        return DemoModel(model=model, context_length=endpoint.context_length)
    return ChatCompletions(
        name=endpoint.provider if endpoint.provider == "openai" else f"custom ({endpoint.base_url})",
        model=model,
        base_url=endpoint.base_url,
        key=environment[endpoint.key_env] if endpoint.key_env is not None else None,
        key_env=endpoint.key_env,
        timeouts=_timeouts(endpoint),
        max_retries=max_retries,
        max_lessons=max_lessons,
        context_length=endpoint.context_length,
        vision=endpoint.vision,
    )


def _timeouts(endpoint: ModelEndpoint) -> Timeouts:
    """The time-outs that are configured are about the primary model; fallbacks have the defaults."""
    config = endpoint if isinstance(endpoint, ModelConfig) else ModelConfig()
    return Timeouts(
        connect=config.connect_timeout,
        first_token=config.first_token_timeout,
        inter_token=config.inter_token_timeout,
    )
