"""The settings that are in force while the gateway runs, and how a reload changes them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from hermes_actors import logs
from hermes_actors.config.model import Config, Settings, to_plain
from hermes_actors.config.problems import ConfigError
from hermes_actors.config.reload import changes, reloaded
from hermes_actors.core.events import SettingsLoaded, SettingsRefused
from hermes_actors.core.state import Limits, ReplyTo
from hermes_actors.home import Home
from hermes_actors.operations.results import Change
from hermes_actors.wire.messages import Configure, Reconfigure
from hermes_actors.wire.messages import WorkerSettings as PlainSettings
from hermes_actors.wire.refusals import RefusalCode

READ_TIMEOUT_S = 1.5  # for the files; together with the workers' responses it is less than hermes-ctl waits

log = structlog.get_logger(__name__)


class LiveSettings:
    """The settings of each worker that starts now.

    Args:
        settings: of the start.
        read: reads the configuration as it is now, in any thread; raises ConfigError. None: it cannot be read again.
    """

    def __init__(self, settings: Settings, read: Callable[[], Settings] | None) -> None:
        self.current = settings
        self._read = read
        self._one_at_a_time = asyncio.Lock()  # or the older of two readings might stay

    async def reload(self, reply_to: ReplyTo | None) -> SettingsLoaded | SettingsRefused:
        """Apply what the files say now, as far as it can change while the gateway runs."""
        if self._read is None:
            why = "this gateway was started without a way to read its configuration again: restart it"
            return SettingsRefused(reply_to=reply_to, error=RefusalCode.BAD_REQUEST, why=why)
        try:
            async with asyncio.timeout(READ_TIMEOUT_S), self._one_at_a_time:
                told = self._take_over(await asyncio.to_thread(self._read))
        except ConfigError as error:
            return SettingsRefused(reply_to=reply_to, error=RefusalCode.CONFIGURATION, why=str(error))
        except TimeoutError:
            why = f"the configuration could not be read within {READ_TIMEOUT_S:g} s"
            return SettingsRefused(reply_to=reply_to, error=RefusalCode.BUSY, why=why)
        except Exception as error:  # a bug of ours in reading a file must not end what runs
            log.exception("the configuration could not be read")
            why = f"{type(error).__name__} while the configuration was read; the log has it"
            return SettingsRefused(reply_to=reply_to, error=RefusalCode.CONFIGURATION, why=why)
        return SettingsLoaded(
            reply_to=reply_to,
            changes=told,
            limits=limits(self.current.config),
            servers=tuple(self.current.config.mcp_servers),
        )

    @property
    def stuck_threshold(self) -> int:
        """How many strikes suspend a session."""
        return self.current.config.supervisor.stuck_threshold

    def fill_in(self, home: Home, message: Configure | Reconfigure) -> Configure | Reconfigure:
        """A message to a worker, with the configuration that is in force, and its secrets."""
        settings = PlainSettings(
            config=to_plain(self.current.config),
            environment=dict(self.current.environment),
            api_keys=dict(self.current.api_keys),
        )
        if isinstance(message, Configure):
            return replace(message, home=str(home.root), settings=settings)
        return replace(message, settings=settings)

    def _take_over(self, new: Settings) -> tuple[Change, ...]:
        """What changes."""
        old = self.current
        logs.protect([*new.api_keys.values(), *new.environment.values()])
        self.current = reloaded(old, new)
        return changes(old, new)


def limits(config: Config) -> Limits:
    """The supervisor's bounds in a configuration."""
    supervisor = config.supervisor
    return Limits(
        heartbeat_s=supervisor.heartbeat_seconds,
        max_restarts=supervisor.max_restarts,
        restart_window_s=supervisor.restart_window_seconds,
        drain_timeout_s=config.agent.restart_drain_timeout,
        stuck_threshold=supervisor.stuck_threshold,
    )
