"""A new configuration for a gateway that runs: read, taken over, given to the workers."""

from __future__ import annotations

from dataclasses import replace

from hermes_actors.core.effects import Effect, LoadSettings, Log, Reply, SendReconfigure
from hermes_actors.core.events import SettingsLoaded, SettingsRefused
from hermes_actors.core.operators.questions import await_answers
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.state import Phase, Reconfigured, State
from hermes_actors.wire.refusals import RefusalCode


def asked(state: State, client: int | None, request: int) -> Result:
    """Have the configuration read, unless it is too late for another one."""
    if state.phase in (Phase.STOPPING, Phase.STOPPED):
        return refused(
            state,
            SettingsRefused(client=client, request=request, error=RefusalCode.BUSY, why="the gateway is stopping"),
        )
    return state, (LoadSettings(client=client, request=request),)


def refused(state: State, event: SettingsRefused) -> Result:
    """Tell why everything stays as it is."""
    effects: tuple[Effect, ...] = (
        Log(level="error", text="configuration not reloaded; nothing changed", fields={"why": event.why}),
    )
    if event.client is not None:
        effects += (Reply(client=event.client, request=event.request, error=event.error, why=event.why),)
    return state, effects


def loaded(state: State, event: SettingsLoaded, now: float) -> Result:
    """Go by the new limits, and give the workers what changed; who asked hears of it when they have it."""
    told = [f"{change['key']}: {change['what']} ({change['when']})" for change in event.changes]
    log = Log(level="info", text="configuration reloaded", fields={"changes": told})
    to = state.live if event.changes else ()
    state = replace(state, limits=event.limits, servers=event.servers)
    state, number = await_answers(state, event.client, event.request, Reconfigured(changes=event.changes), to, now)
    return state, (log, SendReconfigure(to=to, request=number)) if to else (log,)
