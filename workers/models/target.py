"""Who a request is made for, and what that model is known to refuse."""

from __future__ import annotations

from dataclasses import dataclass

from workers.models.limits import ModelLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTarget:
    """The provider and model that are asked, with what the configuration or a refusal says of them.

    The defaults are those of a model of which nothing is known: it is sent all that a chat-completions API takes.
    """

    provider: str  # as :attr:`workers.models.provider.ModelProvider.name`
    model: str  # as it is asked for
    vision: bool | None = None  # False: it takes no pictures, a line says so in their place; None: not known
    takes_attached: bool = True  # False: it refuses fields that it attached itself, like reasoning
    takes_bare_calls: bool = True  # False: it refuses calls that lack what it attaches; such calls are sent as text
    takes_long_ids: bool = True  # False: the ids of all calls are nine letters and digits
    takes_repeated_roles: bool = True  # False: user and assistant must alternate
    takes_system: bool = True  # False: the system's text is sent as a message of the user
    takes_names: bool = True  # False: the name of who speaks stands before the text
    takes_stream_options: bool = True  # False: it is not asked for its usage
    takes_null_content: bool = True  # False: calls without a text get some words


def target_of(limits: ModelLimits, *, provider: str, model: str) -> ModelTarget:
    """Who is asked, with what this model takes of messages."""
    return ModelTarget(
        provider=provider,
        model=model,
        vision=limits.vision,
        takes_attached=limits.takes_attached,
        takes_bare_calls=limits.takes_bare_calls,
        takes_long_ids=limits.takes_long_ids,
        takes_repeated_roles=limits.takes_repeated_roles,
        takes_system=limits.takes_system,
        takes_names=limits.takes_names,
        takes_null_content=limits.takes_null_content,
        takes_stream_options=limits.takes_stream_options,
    )
