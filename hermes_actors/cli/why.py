"""``hermes-ctl why``: the chain of causes, from the durable records, whether a supervisor runs or not."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from hermes_actors.cli.command import CliCommand, example, home_option, json_option, show
from hermes_actors.home import Home
from hermes_actors.operators import client

LIVES_LOOKED_AT = 200  # of the supervisor: all that are kept


@click.command(
    cls=CliCommand,
    short_help="Explain a session's state.",
    epilog=example("hermes-ctl why cli", "hermes-ctl why api:default:cli --json"),
)
@click.argument("session")
@home_option
@json_option
def why(session: str, home: Home, as_json: bool) -> None:
    """Say what happened to SESSION and by which rule, what happens next, and what can be done.

    SESSION is its key, or a last part that only one key has.
    """
    if not home.root.is_dir():
        raise client.NotRunning(f"no supervisor runs on {home.root}")
    from hermes_actors.cli import disk
    from hermes_actors.config.load import stored
    from hermes_actors.core.sessions.why import Records, story

    entry = disk.found(home, session)
    with disk.opened(home) as registry:
        incidents, lives = registry.history.of(entry.key), registry.history.lives(LIVES_LOOKED_AT)
        losses, untold = registry.losses.of_shard(entry.shard, entry.created_at), registry.losses.untold(entry)
    config, now = stored(home), time.time()
    records = Records(
        entry=entry,
        incidents=incidents,
        lives=lives,
        losses=losses,
        untold=untold,
        strikes=disk.strikes(home).count(entry.key),
        threshold=config.supervisor.stuck_threshold,
        drain_timeout_s=config.agent.restart_drain_timeout,
        fresh_s=config.sessions.resume_fresh_seconds,
        heartbeat_s=config.supervisor.heartbeat_seconds,
        running=client.lock_held(home),
    )
    data = story(records, now)
    show(asdict(data), as_json, lambda render: render.story(data))
