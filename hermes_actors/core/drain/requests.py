"""What operators ask about a drain: to have one, to be rid of it, how far it is, what it would come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes_actors.core.drain import restart as preparation
from hermes_actors.core.events import OperatorAsked
from hermes_actors.core.operators.arguments import BadArgument, seconds, text
from hermes_actors.core.operators.questions import query
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.state import PlanDrain, ShowDrain, State, Then, Waiting, Wish

MOST_TIMEOUT_S = 366 * 24 * 3600.0  # as agent.restart_drain_timeout
OPERATIONS = frozenset({"drain", "drain.cancel", "drain.status", "drain.plan"})


def answer(state: State, event: OperatorAsked, now: float) -> Result:
    """One request of the control socket.

    Raises:
        BadArgument: an argument cannot be used.
    """
    waiting = Waiting(event.client, event.request)
    arguments = event.arguments
    match event.operation:
        case "drain.cancel":
            return preparation.cancel(state, waiting)
        case "drain.status":
            return query(state, event, ShowDrain(), state.live, "running", "", now)
        case "drain.plan":
            timeout_s = _timeout(arguments)
            plan = PlanDrain(timeout_s=state.limits.drain_timeout_s if timeout_s is None else timeout_s)
            return query(state, event, plan, state.live, "running", "", now)
        case _:
            asker = text(arguments, "asker") if arguments.get("asker") is not None else None
            wish = Wish(
                then=_then(arguments), timeout_s=_timeout(arguments), by="hermes-ctl", asker=asker, waiting=waiting
            )
            return preparation.asked(state, wish, now)


def _timeout(arguments: Mapping[str, Any]) -> float | None:
    return seconds(arguments, "timeout", MOST_TIMEOUT_S)


def _then(arguments: Mapping[str, Any]) -> Then:
    value = arguments.get("then", Then.STOP.value)
    if value not in tuple(Then):
        raise BadArgument(f"then: one of {', '.join(Then)} is wanted")
    return Then(value)
