"""The gateway's life in one place: what is opened in which order, and closed in the reverse one."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import secrets
import signal
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog
import uvloop

from hermes_actors import reaper
from hermes_actors.background import Background
from hermes_actors.config.model import Settings, to_plain
from hermes_actors.control.server import ControlServer
from hermes_actors.core.events import ReloadAsked, Started, StopAsked, Tick
from hermes_actors.core.model import Owner, State, Worker
from hermes_actors.core.placement import place
from hermes_actors.cores import usable_cores, usual_shards
from hermes_actors.home import Home
from hermes_actors.home_lock import HomeBusy, HomeUnusable, hold
from hermes_actors.listeners import ListenFailed, open_listeners
from hermes_actors.perform import Outgoing, Performer, Recorder
from hermes_actors.pool import MOST_WORKERS, WORKER_ENTRY, Pool
from hermes_actors.reaper_process import ReaperProcess
from hermes_actors.registry import Registry, ShardsFixed
from hermes_actors.registry_file import RegistryUnusable, check, is_damage, mark_suspect, unchecked
from hermes_actors.settings import LiveSettings, limits
from hermes_actors.supervisor import START_TIMEOUT_S, Intake, Supervisor, SupervisorFailed
from hermes_actors.wire.messages import Configure, Reconfigure
from hermes_actors.wire.ownership import OWNER_VARIABLE, home_mark

__all__ = [
    "HomeBusy",
    "HomeUnusable",
    "ListenFailed",
    "RegistryUnusable",
    "Serving",
    "ShardsFixed",
    "SupervisorFailed",
    "TooManyWorkers",
    "serve",
]

log = structlog.get_logger(__name__)


class TooManyWorkers(Exception):
    """More workers are configured than one supervisor can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where a gateway that is ready can be reached."""

    pid: int
    host: str
    port: int
    workers: int


def serve(
    settings: Settings,
    home: Home,
    *,
    ready: Callable[[Serving], None] = lambda _: None,
    reload: Callable[[], Settings] | None = None,
    entry: str = WORKER_ENTRY,
) -> int:
    """Run the gateway in the foreground until it is stopped. Call it in the main thread.

    SIGTERM and SIGINT stop it, SIGHUP has the configuration read again.

    Args:
        settings: the configuration with its secrets.
        home: where the state is; made when there is none.
        ready: called once, when the first workers serve.
        reload: reads the configuration again, in another thread; raises ConfigError. None: it cannot be read again.
        entry: what a worker runs, ``module:function``.

    Returns:
        The exit code, 0.

    Raises:
        HomeBusy: another supervisor runs on this home.
        HomeUnusable: the home cannot be used.
        RegistryUnusable: the registry cannot be used.
        ShardsFixed: another number of shards is configured than the home has.
        TooManyWorkers: more workers are configured than are possible.
        ListenFailed: the public address cannot be listened on.
        SupervisorFailed: an error ended it; the log has it.
    """
    home = Home(home.root.absolute())
    with hold(home):
        uvloop.run(_Gateway(settings, reload, home, entry, ready).run())
    return 0


class _Gateway:
    """Everything that is open while the gateway runs, on the event loop."""

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings] | None,
        home: Home,
        entry: str,
        ready: Callable[[Serving], None],
    ) -> None:
        self._settings = LiveSettings(settings, reload)
        self._home = home
        self._entry = entry
        self._ready = ready
        self._boot = secrets.token_hex(8)
        self._intake = Intake()
        self._ended: asyncio.Future[None]
        self._performer: Performer
        self._tick: asyncio.TimerHandle | None = None
        self._tick_at = 0.0

    async def run(self) -> None:
        """Open, serve until all workers are gone, close."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        async with contextlib.AsyncExitStack() as opened:
            await self._open(opened)
            try:
                await self._ended
            except Exception as error:
                log.critical("the supervisor failed", why=str(error), exc_info=error)
                raise SupervisorFailed(f"the supervisor failed: {error}") from error
        log.info("stopped")

    async def _open(self, opened: contextlib.AsyncExitStack) -> None:
        cores = usable_cores()
        settings = self._settings.current
        wanted, api = settings.config.supervisor, settings.config.api_server
        slots = min(cores, MOST_WORKERS) if wanted.workers == "auto" else wanted.workers
        if slots > MOST_WORKERS:
            raise TooManyWorkers(f"supervisor.workers is {slots}, at most {MOST_WORKERS} are possible")
        registry = Registry.open(
            self._home,
            shards=None if wanted.shards == "auto" else wanted.shards,
            usual_shards=usual_shards(cores),
            durability=settings.config.store.durability,
        )
        opened.callback(registry.close)
        self._sweep_leftovers()
        reaper_process = ReaperProcess(self._mark)
        opened.callback(reaper_process.dismiss)
        listeners = opened.enter_context(open_listeners(api.host, api.port, slots))
        port = listeners[0].getsockname()[1]
        serving = Serving(pid=os.getpid(), host=api.host, port=port, workers=slots)

        state = _first_state(settings, registry.owners(), slots)
        background = Background(self._fail)
        opened.callback(background.cancel)
        pool = Pool(
            entry=self._entry,
            mark=f"{home_mark(self._home.root)}:{self._boot}:",
            listeners=listeners,
            tell=self._intake.put,
            flooded=lambda: self._intake.full,
            background=background,
        )
        opened.push_async_callback(self._close_pool, pool)
        control = ControlServer(self._home.control, self._intake.put)
        self._performer = Performer(
            pool=pool,
            control=control,
            home=self._home,
            boot=self._boot,
            configure=partial(self._configure, len(state.owners)),
            reconfigure=self._reconfigure,
            reload=self._settings.reload,
            tell=self._intake.put,
            announce=partial(self._announce, serving),
            finish=self._finish,
            background=background,
        )
        recorder = Recorder(registry, self._facts(serving))
        actor = Supervisor.start(state, recorder, self._deliver, self._failed)
        opened.callback(actor.stop)
        actor.ask((), timeout=START_TIMEOUT_S)  # on_start fails in silence; this does not
        try:
            await control.open()
        except OSError as error:
            raise HomeUnusable(f"the control socket {self._home.control} cannot be made: {error}") from error
        opened.callback(control.close)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._intake.put, StopAsked(now=False, by=number.name))
        self._loop.add_signal_handler(signal.SIGHUP, self._intake.put, ReloadAsked())
        self._intake.open(actor)
        self._intake.put(Started())
        if unchecked(self._home.registry):
            background.start(self._check_registry())

    # -- what others call ---------------------------------------------------------------------------------------------
    def _deliver(self, effects: Sequence[Outgoing], tick_at: float | None) -> None:
        """From the actor's thread: do these, then tell me more."""
        self._loop.call_soon_threadsafe(self._perform, effects, tick_at)

    def _failed(self, error: BaseException) -> None:
        """From the actor's thread: it is dead."""
        self._loop.call_soon_threadsafe(self._fail, error)

    def _perform(self, effects: Sequence[Outgoing], tick_at: float | None) -> None:
        try:
            for effect in effects:
                self._performer.perform(effect)
        except Exception as error:  # noqa: BLE001  # our bug: the process ends with it, loudly
            self._fail(error)
            return
        self._arm(tick_at)
        self._intake.done()

    def _fail(self, error: BaseException) -> None:
        if is_damage(error):
            mark_suspect(self._home.registry)
        if not self._ended.done():
            self._ended.set_exception(error)

    def _arm(self, at: float | None) -> None:
        """Have a tick at this time. One that is due earlier stays: it finds nothing to do, and asks again."""
        if at is None or (self._tick is not None and self._tick_at <= at):
            return
        if self._tick is not None:
            self._tick.cancel()
        self._tick_at = at
        self._tick = self._loop.call_later(max(0.0, at - time.monotonic()), self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        self._intake.put(Tick(due=self._tick_at))

    def _announce(self, serving: Serving) -> None:
        log.info("gateway ready", host=serving.host, port=serving.port, workers=serving.workers, boot=self._boot)
        self._ready(serving)

    def _finish(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _configure(self, shards: int, slot: int, generation: int) -> Configure:
        settings = self._settings.current
        return Configure(
            boot=self._boot,
            slot=slot,
            generation=generation,
            shards=shards,
            home=str(self._home.root),
            config=to_plain(settings.config),
            environment=dict(settings.environment),
            api_keys=dict(settings.api_keys),
        )

    def _reconfigure(self, request: int) -> Reconfigure:
        settings = self._settings.current
        return Reconfigure(
            request=request,
            config=to_plain(settings.config),
            environment=dict(settings.environment),
            api_keys=dict(settings.api_keys),
        )

    def _facts(self, serving: Serving) -> dict[str, object]:
        return {
            "version": importlib.metadata.version("hermes-actors"),
            "pid": serving.pid,
            "boot": self._boot,
            "home": str(self._home.root),
            "started_at": time.time(),
            "http": {"host": serving.host, "port": serving.port},
        }

    # -- what nobody may leave behind ---------------------------------------------------------------------------------
    @property
    def _mark(self) -> str:
        return f"{OWNER_VARIABLE}={home_mark(self._home.root)}:{self._boot}:"

    def _sweep_leftovers(self) -> None:
        killed = reaper.sweep([f"{OWNER_VARIABLE}={home_mark(self._home.root)}:"])
        if killed:
            log.warning("killed what an earlier supervisor of this home left running", pids=killed)

    async def _close_pool(self, pool: Pool) -> None:
        await pool.close()
        await asyncio.to_thread(reaper.sweep, [self._mark])

    async def _check_registry(self) -> None:
        try:
            fault = await asyncio.to_thread(check, self._home.registry)
        except sqlite3.Error as error:
            fault = str(error)
        if fault is not None:
            log.error("the registry is damaged; the next start makes it anew", why=fault)


def _first_state(settings: Settings, owners: Sequence[Owner], slots: int) -> State:
    """The home's shards on the slots of this start; fences grow when the workers are spawned."""
    placed = place({shard: owner.slot for shard, owner in enumerate(owners)}, len(owners), slots)
    return State(
        limits=limits(settings),
        workers=tuple(Worker(slot=slot) for slot in range(slots)),
        owners=tuple(Owner(slot, owner.fence) for slot, owner in zip(placed, owners, strict=True)),
        servers=tuple(settings.config.mcp_servers),
    )
