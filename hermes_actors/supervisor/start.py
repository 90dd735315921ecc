"""What a life of the supervisor begins with: its records, its first state, and how both are left at its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Literal

import pykka
import structlog

from hermes_actors.config.model import Settings
from hermes_actors.core.pool.placement import place
from hermes_actors.core.sessions.ledger import Ledger
from hermes_actors.core.sessions.lives import begins_by_itself, young_deaths
from hermes_actors.core.sessions.marking import left_over
from hermes_actors.core.state import Owner, Slot, State
from hermes_actors.home import Home
from hermes_actors.pool.cores import usable_cores, usual_shards
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.ledger_file import LedgerFile
from hermes_actors.records.registry import Registry
from hermes_actors.records.registry_file import RegistryUnusable, check
from hermes_actors.supervisor.actor import Supervisor
from hermes_actors.supervisor.recorder import open_ledger
from hermes_actors.supervisor.settings import limits

MOST_LIVES = 20  # looked back at for a chain of young deaths
STOP_TIMEOUT_S = 30.0  # for the actor to finish its last batch

log = structlog.get_logger(__name__)


def open_records(
    opened: contextlib.ExitStack | contextlib.AsyncExitStack,
    home: Home,
    settings: Settings,
    boot: str,
    how_it_ended: Callable[[], Literal["restart", "stop"] | None],
) -> tuple[Registry, LedgerFile]:
    """Registry and ledger, with a new life in them. ``opened`` writes the end of this life and closes them.

    Args:
        opened: closes them.
        home: where they are.
        settings: of this start.
        boot: id of the new life.
        how_it_ended: called at the end; None: not in order.

    Raises:
        RegistryUnusable: the registry cannot be used.
        ShardsFixed: another number of shards is configured than the home has.
    """
    shards = settings.config.supervisor.shards
    registry = Registry.open(
        home,
        shards=None if shards == "auto" else shards,
        usual_shards=usual_shards(usable_cores()),
        durability=settings.config.store.durability,
    )
    opened.callback(registry.close)
    file = open_ledger(home.ledger)
    opened.callback(file.close)
    opened.callback(_end_life, registry, how_it_ended)
    try:
        registry.set_right(time.time())
        registry.history.begin_life(boot, time.time())
    except RegistryFailed as error:
        raise RegistryUnusable(f"{home.registry}: {error}") from error
    return registry, file


def _end_life(registry: Registry, how_it_ended: Callable[[], Literal["restart", "stop"] | None]) -> None:
    """Write that this life ended in order. The actor is gone; a full disk does not prevent a restart."""
    how = how_it_ended()
    if how is None:
        return
    try:
        registry.history.reached("ended_at", time.time(), how=how)
        registry.commit()
    except RegistryFailed as error:
        log.warning("that this life ended in order is not recorded", why=str(error))


def first_state(
    settings: Settings, registry: Registry, ledger: Ledger, slots: int, *, boot: str, sockets: int
) -> State:
    """The home's shards on the slots of this start; fences grow when the workers are spawned.

    Args:
        settings: of this start.
        registry: has the owners of the shards, the sessions and the earlier lives.
        ledger: as its file has it.
        slots: how many workers there are to be.
        boot: id of this life.
        sockets: how many listen on the public address.
    """
    deaths = young_deaths(registry.history.lives(MOST_LIVES))
    auto_resume = begins_by_itself(deaths)
    if not auto_resume:
        log.error("the last lives were killed young: turns that wait do not begin at once", lives=deaths)
    owners = registry.owners()
    placed = place({shard: owner.slot for shard, owner in enumerate(owners)}, len(owners), slots)
    return State(
        boot=boot,
        limits=limits(settings.config),
        workers=tuple(Slot(slot=slot) for slot in range(slots)),
        owners=tuple(Owner(slot, max(owner.fence, registry.floor)) for slot, owner in zip(placed, owners, strict=True)),
        servers=tuple(settings.config.mcp_servers),
        unheard=frozenset(range(len(owners))),
        auto_resume=auto_resume,
        spare_sockets=sockets - slots,
        ledger=left_over(ledger, registry.session, lost=registry.behind is not None),
    )


def stop(actor: pykka.ActorRef[Supervisor]) -> None:
    """End the actor; where its disk does not answer, the process at once: what it uses cannot be closed."""
    try:
        actor.stop(timeout=STOP_TIMEOUT_S)
    except pykka.Timeout:
        log.critical("the disk does not answer", seconds=STOP_TIMEOUT_S)
        os._exit(1)  # the reaper, which was not dismissed, ends the rest


async def check_registry(home: Home) -> None:
    """Check all of a registry that was too large for that at the start."""
    try:
        fault = await asyncio.to_thread(check, home.registry)
    except RegistryFailed as error:
        fault = str(error)
    if fault is not None:
        log.error("the registry is damaged; the next start replaces it", why=fault)
