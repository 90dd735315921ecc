"""The gateway's life in one place: what is opened in which order, and closed in the reverse one."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import structlog
import uvloop

from hermes_actors.background import Background
from hermes_actors.config.model import Settings
from hermes_actors.core.events import ReloadAsked, Started, StopAsked, Tick
from hermes_actors.disk.sqlite import is_large, mark_suspect
from hermes_actors.home import Home
from hermes_actors.operations.results import Listening, ProcessFacts
from hermes_actors.operators.server import ControlServer
from hermes_actors.pool import fork_server, reaper
from hermes_actors.pool.listeners import ListenFailed, open_listeners
from hermes_actors.pool.pool import WORKER_ENTRY, Pool, TooManyWorkers, slots
from hermes_actors.pool.reaper_process import ReaperProcess
from hermes_actors.records.database import RegistryFailed
from hermes_actors.records.registry import ShardsFixed
from hermes_actors.records.registry_file import RegistryUnusable
from hermes_actors.restart.dry_run import Running
from hermes_actors.restart.handover import SIGNALS, CommandLine, Handover
from hermes_actors.restart.prepare import RestartPreparation
from hermes_actors.supervisor.actor import START_TIMEOUT_S, Intake, Outgoing, Supervisor, SupervisorFailed
from hermes_actors.supervisor.home_lock import HomeBusy, HomeUnusable, hold
from hermes_actors.supervisor.notify import ServiceManager, Watchdog
from hermes_actors.supervisor.perform import Performer
from hermes_actors.supervisor.recorder import Recorder
from hermes_actors.supervisor.settings import LiveSettings
from hermes_actors.supervisor.start import check_registry, first_state, open_records, stop
from hermes_actors.supervisor.waiting_room import wait, waits_for_disk
from hermes_actors.wire.failpoints import point
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Where to reach a gateway that is ready."""

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
    command: CommandLine | None = None,
    inherited: Handover | None = None,
    entry: str = WORKER_ENTRY,
) -> Handover | None:
    """Run the gateway in the foreground until it is stopped. Call it in the main thread.

    SIGTERM and SIGINT stop it, SIGHUP has the configuration read again. They are blocked when it returns, so that a
    late second signal does not turn an orderly end into a failure.

    Args:
        settings: the configuration with its secrets.
        home: where the state is; made when there is none.
        ready: called once, when the first workers serve.
        reload: reads the configuration again, in another thread; raises ConfigError. None: it cannot be read again.
        command: starts the gateway again, for a restart in place. None: nothing does.
        inherited: what an earlier life of this process left.
        entry: what a worker runs, ``module:function``.

    Returns:
        None: it was stopped. Else it restarts in place: everything is closed except what the next life gets.

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
    once = partial(_serve, home=home, ready=ready, reload=reload, command=command, entry=entry)
    while True:
        try:
            return once(settings, inherited=inherited)
        except (HomeUnusable, RegistryUnusable, SupervisorFailed) as error:
            if not waits_for_disk(error):
                raise
            if not wait(home, settings.config.api_server, str(error)):
                return None
        inherited = None  # the start that failed has closed it
        settings = settings if reload is None else reload()


def _serve(
    settings: Settings,
    *,
    home: Home,
    ready: Callable[[Serving], None],
    reload: Callable[[], Settings] | None,
    command: CommandLine | None,
    inherited: Handover | None,
    entry: str,
) -> Handover | None:
    """One try of :func:`serve`, with its parameters."""
    with hold(home, None if inherited is None else inherited.lock) as lock:
        fork_server.settle(home.run, None if inherited is None else inherited.fork_server)
        gateway = _RunningGateway(settings, reload, home, entry, ready, command=command, inherited=inherited, lock=lock)
        handover = uvloop.run(gateway.run())
        if handover is not None and gateway.overtaken:
            handover.discard()
            return None
        return handover


class _RunningGateway:
    """Everything that is open while the gateway runs, on the event loop."""

    def __init__(
        self,
        settings: Settings,
        reload: Callable[[], Settings] | None,
        home: Home,
        entry: str,
        ready: Callable[[Serving], None],
        *,
        command: CommandLine | None,
        inherited: Handover | None,
        lock: int,
    ) -> None:
        self._command = command
        self._inherited = inherited
        self._lock = lock
        self._unused_listeners = () if inherited is None else inherited.listeners
        self._unused_server = None if inherited is None else inherited.fork_server
        self._settings = LiveSettings(settings, reload)
        self._home = home
        self._entry = entry
        self._ready = ready
        self._boot = secrets.token_hex(8) if inherited is None else inherited.boot
        self._next_boot = secrets.token_hex(8)
        self._intake = Intake()
        self._ended: asyncio.Future[bool]  # whether the gateway restarts in place
        self._service_manager = ServiceManager()
        self._watchdog = Watchdog(self._service_manager, self._intake.put)
        self._performer: Performer
        self._preparation: RestartPreparation
        self._tick: asyncio.TimerHandle | None = None
        self._tick_at = 0.0

    async def run(self) -> Handover | None:
        """Open, serve until all workers are gone, close. Returns what the next life gets, if one follows."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        handover: Handover | None = None
        async with contextlib.AsyncExitStack() as opened:
            listeners = await self._open(opened)
            try:
                if await self._ended:
                    handover = await self._preparation.hand_over(self._lock, listeners)
            except Exception as error:
                if not waits_for_disk(error):
                    log.critical("the supervisor failed", why=str(error), exc_info=error)
                raise SupervisorFailed(f"the supervisor failed: {error}") from error
        log.info("stopped" if handover is None else "restarting in place")
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # for the next life; as it ends, Python dies of them
        return handover

    @property
    def overtaken(self) -> bool:
        """Whether a signal requested a stop so late that the restart had begun."""
        return self._preparation.overtaken

    async def _open(self, opened: contextlib.AsyncExitStack) -> list[socket.socket]:
        """Open everything, each part after those that it needs; returns the listening sockets."""
        opened.callback(self._close_unused)
        settings = self._settings.current
        workers = slots(settings.config.supervisor.workers)
        registry, file = open_records(opened, self._home, settings, self._boot, self._how_it_ended)
        self._open_reaper(opened)
        listeners = self._open_listeners(opened, settings, workers)
        host, port = settings.config.api_server.host, listeners[0].getsockname()[1]
        serving = Serving(pid=os.getpid(), host=host, port=port, workers=workers)
        state = first_state(settings, registry, file.ledger, workers, boot=self._boot, sockets=len(listeners))
        recorder = Recorder(registry, file, self._facts(serving), lambda: self._settings.stuck_threshold)

        background = Background(self._fail)
        opened.callback(background.cancel)
        control = ControlServer(self._home.control, self._intake.put)
        self._open_performer(opened, serving, listeners, len(state.owners), control, background)
        actor = Supervisor.start(state, recorder, self._deliver, self._failed)
        opened.callback(stop, actor)
        actor.ask((), timeout=START_TIMEOUT_S)  # on_start fails in silence; this does not
        await self._open_control(opened, control)
        self._hear_signals()
        self._intake.open(actor)
        self._intake.put(Started())
        background.start(self._watchdog.run())
        if is_large(self._home.registry):
            background.start(check_registry(self._home))
        return list(listeners.values())

    def _open_reaper(self, opened: contextlib.AsyncExitStack) -> None:
        """Kill what earlier lives left running, and start the reaper, so that this life leaves nothing."""
        self._sweep_leftovers()
        lives = (self._boot, self._next_boot)  # what prepares the next one dies with this one
        reaper_process = ReaperProcess(*(f"{OWNER_VARIABLE}={self._mark(boot)}" for boot in lives))
        opened.callback(reaper_process.dismiss)

    def _open_listeners(
        self, opened: contextlib.AsyncExitStack, settings: Settings, workers: int
    ) -> dict[int, socket.socket]:
        """Open a public socket for each slot; those of an earlier life of this process are used first."""
        api = settings.config.api_server
        left, self._unused_listeners = self._unused_listeners, ()
        return opened.enter_context(open_listeners(api.host, api.port, workers, left))

    def _open_performer(
        self,
        opened: contextlib.AsyncExitStack,
        serving: Serving,
        listeners: dict[int, socket.socket],
        shards: int,
        control: ControlServer,
        background: Background,
    ) -> None:
        """Make the pool, the preparation of a next life, and the performer of effects on both."""
        pool = Pool(
            entry=self._entry,
            mark=self._mark(self._boot),
            listeners=listeners,
            tell=self._intake.put,
            flooded=lambda: self._intake.full,
            background=background,
        )
        opened.push_async_callback(self._close_pool, pool)
        if self._unused_server is not None:
            pool.inherit(self._unused_server)
            self._unused_server = None
        self._preparation = RestartPreparation(
            self._command,
            running=Running(port=serving.port, shards=shards),
            boot=self._next_boot,
            mark=self._mark,
            pool=pool,
            tell=self._intake.put,
            background=background,
        )
        opened.callback(self._preparation.abandon)
        self._performer = Performer(
            pool=pool,
            control=control,
            home=self._home,
            boot=self._boot,
            fill_in=partial(self._settings.fill_in, self._home),
            reload=self._settings.reload,
            tell=self._intake.put,
            announce=partial(self._announce, serving),
            finish=self._finish,
            preparation=self._preparation,
            service_manager=self._service_manager,
            background=background,
        )

    async def _open_control(self, opened: contextlib.AsyncExitStack, control: ControlServer) -> None:
        try:
            await control.open()
        except OSError as error:
            raise HomeUnusable(f"the control socket {self._home.control} cannot be made: {error}") from error
        opened.push_async_callback(control.close)

    def _hear_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop_on, number.name)
        self._loop.add_signal_handler(signal.SIGHUP, self._intake.put, ReloadAsked())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # they may wait since an earlier life of this process

    def _close_unused(self) -> None:
        """Close what an earlier life left and this start did not use, because it failed."""
        for descriptor in self._unused_listeners:
            os.close(descriptor)
        if self._unused_server is not None:
            fork_server.end(self._unused_server)

    # -- what others call ---------------------------------------------------------------------------------------------
    def _stop_on(self, signal_name: str) -> None:
        self._preparation.overtake()
        self._intake.put(StopAsked(now=False, by=signal_name))

    def _deliver(self, effects: Sequence[Outgoing], tick_at: float | None) -> None:
        """From the actor's thread: have the loop perform these."""
        self._loop.call_soon_threadsafe(self._perform, effects, tick_at)

    def _failed(self, error: BaseException) -> None:
        """From the actor's thread: the actor died."""
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
        self._watchdog.handled()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, RegistryFailed) and error.is_damaged:
            mark_suspect(self._home.registry)
        if not self._ended.done():
            self._ended.set_exception(error)

    def _arm(self, at: float | None) -> None:
        """Arm the next tick. One that is due earlier stays: it finds nothing to do, and arms the next one."""
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
        self._service_manager.going("ready", 0.0)
        point("announced")

    def _how_it_ended(self) -> Literal["restart", "stop"] | None:
        """How this life ended, if it ended in order."""
        if not self._ended.done() or self._ended.exception() is not None:
            return None
        return "restart" if self._ended.result() else "stop"

    def _finish(self, restart: bool) -> None:
        if not self._ended.done():
            self._ended.set_result(restart)

    def _facts(self, serving: Serving) -> ProcessFacts:
        return ProcessFacts(
            version=importlib.metadata.version("hermes-actors"),
            pid=serving.pid,
            boot=self._boot,
            home=str(self._home.root),
            started_at=time.time(),
            http=Listening(host=serving.host, port=serving.port),
        )

    # -- what must not stay behind -------------------------------------------------------------------------------------
    def _mark(self, boot: str) -> str:
        """The owner mark that all processes of a life share."""
        return f"{home_mark(self._home.root)}:{boot}:"

    def _sweep_leftovers(self) -> None:
        own = () if self._inherited is None else (self._inherited.fork_server.pid,)
        killed = reaper.sweep([f"{OWNER_VARIABLE}={home_mark(self._home.root)}:"], spare=own)
        if killed:
            log.warning("killed what an earlier supervisor of this home left running", pids=killed)

    async def _close_pool(self, pool: Pool) -> None:
        await pool.close()
        await asyncio.to_thread(reaper.sweep, [f"{OWNER_VARIABLE}={self._mark(self._boot)}"])
