"""The settings that are in force, and reading them again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from fakes.gateway_process import BOUND_S
from fakes.virtual_time import step

from hermes_actors import logs
from hermes_actors.config.model import Settings, from_plain
from hermes_actors.core.events import SettingsLoaded, SettingsRefused
from hermes_actors.core.state import ReplyTo
from hermes_actors.supervisor.settings import LiveSettings


def settings(key: str = "first-key", **sections: Mapping[str, Any]) -> Settings:
    config = from_plain({"model": {"provider": "demo"}, **sections})
    return Settings(config=config, environment={"API_SERVER_KEY": key}, api_keys={"default": key})


async def test_what_can_change_is_in_force_at_once_and_the_rest_is_told_only() -> None:
    new = settings(
        agent={"restart_drain_timeout": 7}, supervisor={"workers": 3}, mcp_servers={"time": {"command": "true"}}
    )
    live = LiveSettings(settings(supervisor={"workers": 2}), lambda: new)

    told = await live.reload(ReplyTo(3, 9))

    assert isinstance(told, SettingsLoaded)
    assert (told.reply_to, told.servers, told.limits.drain_timeout_s) == ((3, 9), ("time",), 7.0)
    assert [change.key for change in told.changes] == [
        "agent.restart_drain_timeout",
        "mcp_servers.time",
        "supervisor.workers",
    ]
    assert live.current.config.agent.restart_drain_timeout == 7
    assert live.current.config.supervisor.workers == 2


async def test_new_secrets_are_kept_out_of_the_log() -> None:
    live = LiveSettings(settings(), lambda: settings("rotated-key"))

    await live.reload(None)

    assert live.current.api_keys == {"default": "rotated-key"}
    assert "rotated-key" not in logs.mask("Bearer? rotated-key")


async def test_of_two_reloads_at_once_the_later_reading_stays() -> None:
    may_go_on, read = threading.Event(), [settings("older-key"), settings("newer-key")]

    def reading() -> Settings:
        found = read.pop(0)
        if read:
            assert may_go_on.wait(BOUND_S)
        return found

    live = LiveSettings(settings(), reading)
    both = [asyncio.create_task(live.reload(None)) for _ in range(2)]
    for _ in range(3):
        await step()
    may_go_on.set()

    assert all(isinstance(told, SettingsLoaded) for told in await asyncio.gather(*both))
    assert live.current.api_keys == {"default": "newer-key"}


async def test_an_error_of_ours_while_reading_leaves_what_runs_alone() -> None:
    def broken() -> Settings:
        raise ZeroDivisionError("with a secret in it")

    before = settings()
    live = LiveSettings(before, broken)

    told = await live.reload(ReplyTo(3, 9))

    assert isinstance(told, SettingsRefused)
    assert told.why == "ZeroDivisionError while the configuration was read; the log has it"
    assert live.current is before


async def test_a_gateway_that_cannot_read_its_configuration_again_says_so() -> None:
    told = await LiveSettings(settings(), None).reload(ReplyTo(3, 9))

    assert isinstance(told, SettingsRefused)
    assert told.error == "bad_request"
