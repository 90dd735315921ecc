"""A new configuration for a gateway that runs: read it, apply it, send it to the workers."""

from __future__ import annotations

from dataclasses import replace

from hermes_actors.core.effects import Effect, LoadSettings, Log, Reply, Send
from hermes_actors.core.events import SettingsLoaded, SettingsRefused
from hermes_actors.core.operators.pending import wait
from hermes_actors.core.pool.lifecycle import Result
from hermes_actors.core.state import Pending, ReplyTo, State
from hermes_actors.operations.requests import Reload
from hermes_actors.operations.results import Phase
from hermes_actors.wire.messages import Reconfigure
from hermes_actors.wire.refusals import RefusalCode


def asked(state: State, reply_to: ReplyTo | None) -> Result:
    """Read the configuration again, unless the gateway stops."""
    if state.phase in (Phase.STOPPING, Phase.STOPPED):
        return refused(
            state,
            SettingsRefused(reply_to=reply_to, error=RefusalCode.BUSY, why="the gateway is stopping"),
        )
    return state, (LoadSettings(reply_to=reply_to),)


def refused(state: State, event: SettingsRefused) -> Result:
    """Report why nothing changed."""
    effects: tuple[Effect, ...] = (
        Log(level="error", text="configuration not reloaded; nothing changed", fields={"why": event.why}),
    )
    if event.reply_to is not None:
        effects += (Reply(reply_to=event.reply_to, error=event.error, why=event.why),)
    return state, effects


def loaded(state: State, event: SettingsLoaded, now: float) -> Result:
    """Apply the new limits and send the workers what changed. The operator gets a reply when they have it."""
    changes = [f"{change.key}: {change.what} ({change.when})" for change in event.changes]
    log = Log(level="info", text="configuration reloaded", fields={"changes": changes})
    to = state.live if event.changes else ()
    state = replace(state, limits=event.limits, servers=event.servers)
    pending = Pending(reply_to=event.reply_to, operation=Reload(), waiting=frozenset(to), changes=event.changes)
    state, number = wait(state, pending, now)
    return state, (log, Send(to=to, message=Reconfigure(request=number))) if to else (log,)
