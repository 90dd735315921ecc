"""Why a model gave no answer, in words for the person who sent the message: who, which model, why, what to do."""

from __future__ import annotations

from workers.models.cause import TREATMENTS, Cause
from workers.models.failure import advice_of, chain_story
from workers.models.provider import ModelFailure
from workers.models.route import decisive
from workers.turn_errors import local_error
from workers.turns import TurnError


def failure_error(failure: ModelFailure) -> TurnError:
    """The failure of a provider, or of all in the chain, as the caller gets it: who, which model, why, what to do."""
    told = decisive(failure)
    treatment = TREATMENTS[told.cause]
    advice = dict.fromkeys(advice_of(one) for one in (*failure.earlier, failure))
    return TurnError(
        code=treatment.code,
        text=f"No answer from the model.\n{chain_story(failure)}\nWhat to do: {'; '.join(advice)}.",
        http_status=treatment.http_status,
        provider=told.provider,
        model=told.model,
        upstream_status=told.status,
        retry_after_s=told.retry_after_s,
    )


def max_turns_error(limit: int) -> TurnError:
    """The tool loop did not come to an end."""
    treatment = TREATMENTS[Cause.MAX_TURNS]
    return local_error(
        treatment.code,
        f"The agent called tools for {limit} rounds without coming to an answer.\nWhat to do: {treatment.advice}.",
        http_status=treatment.http_status,
    )
