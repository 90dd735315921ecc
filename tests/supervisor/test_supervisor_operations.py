"""Restarts after a fallback, resets, and what operators do to a gateway that runs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from fakes.gateway_process import GatewayProcess, eventually, owned_by, wait_gone

from hermes_actors.wire.refusals import RefusalCode
from hermes_actors.wire.sharding import shard_of

Prepare = Callable[..., GatewayProcess]
SERVERS = {name: {"command": "true"} for name in ("files", "time")}


def shown(gateway: GatewayProcess, key: str) -> Any:
    return gateway.ask("sessions.show", session=key).data["actor"]


def told(gateway: GatewayProcess, slot: int) -> Any:
    return gateway.tell_slot(slot, "told")


def logged(gateway: GatewayProcess, event: str) -> list[Any]:
    """The lines of its log that say this, once there are some."""
    path = gateway.home.logs / "supervisor.log"

    def look() -> list[Any]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in map(json.loads, lines) if line["event"] == event]

    return eventually(look)


# -- restarts and resets -----------------------------------------------------------------------------------------------


def test_a_turn_that_succeeded_on_a_fallback_restarts_its_actor_once_and_that_is_remembered(prepare: Prepare) -> None:
    gateway, key = prepare().start(), owned_by(1)
    _, fence = gateway.tell_slot(1, "who")["owners"][str(shard_of(key, 8))]
    gateway.tell_slot(1, "activate", key)

    gateway.tell_slot(1, "fell", key, "turn_0", fence - 1)
    for turn in ("turn_1", "turn_1"):
        gateway.tell_slot(1, "fell", key, turn)
    gateway.tell_slot(1, "activate", key)  # the supervisor has handled what came before its answer

    assert told(gateway, 1)["restarted"] == [key]
    actor = shown(gateway, key)
    assert (actor["generation"], actor["restarts"]) == (2, 1)
    assert actor["last_restart_reason"] == "turn_1 succeeded on fallback custom (http://spare/v1)/fake-2"
    assert actor["last_restart_at"] > 1e9
    gateway.process.kill()
    gateway = prepare().start()
    assert shown(gateway, key) == actor
    gateway.tell_slot(1, "fell", key, "turn_1")
    gateway.tell_slot(1, "fell", key, "turn_2")
    gateway.tell_slot(1, "activate", key)
    assert told(gateway, 1)["restarted"] == [key]
    assert shown(gateway, key)["restarts"] == 2


def test_the_actor_of_a_conversation_that_has_no_name_is_restarted_too(gateway: GatewayProcess) -> None:
    key = owned_by(0, "conv:default:")

    gateway.tell_slot(0, "fell", key, "turn_1")
    gateway.tell_slot(0, "look", key)

    assert told(gateway, 0)["restarted"] == [key]
    assert gateway.status()["sessions"] == 0


def test_a_session_begins_a_new_transcript_under_its_old_name(prepare: Prepare) -> None:
    gateway, key = prepare().start(), owned_by(0)
    _, fence = gateway.tell_slot(0, "who")["owners"][str(shard_of(key, 8))]
    made = gateway.tell_slot(0, "activate", key)

    renamed = gateway.tell_slot(0, "reset", key)

    assert (renamed["is"], renamed["created_at"]) == ("Activated", made["created_at"])
    assert renamed["session_id"] != made["session_id"]
    refused = gateway.tell_slot(0, "reset", key, fence - 1)
    assert (refused["is"], refused["code"]) == ("Refused", "stale_fence")
    unknown = gateway.tell_slot(0, "reset", owned_by(0, "api:nobody:"))
    assert (unknown["is"], unknown["code"]) == ("Refused", "not_found")
    gateway.process.kill()
    assert prepare().start().tell_slot(0, "look", key)["session_id"] == renamed["session_id"]


# -- MCP connections ---------------------------------------------------------------------------------------------------


def test_operators_see_the_connections_of_every_worker_and_restart_those_to_one_server(prepare: Prepare) -> None:
    gateway = prepare(mcp_servers=SERVERS).start()

    connections = gateway.ask("mcp").data
    assert connections["missing"] == []
    assert [(row["worker"], row["server"], row["pid"]) for row in connections["connections"]] == [
        (slot, server, pid) for slot in (0, 1) for server in ("files", "time") for pid in (1, 2)
    ]
    assert gateway.ask("mcp.restart", server="time").data == {"restarted": 4, "missing": []}
    unknown = gateway.ask("mcp.restart", server="tine")
    assert (unknown.error, unknown.why) == ("not_found", "no MCP server is named 'tine'; configured: files, time")


def test_a_worker_that_says_nothing_hides_no_other_ones_connections(prepare: Prepare) -> None:
    gateway = prepare(mcp_servers={"time": SERVERS["time"]}).start()
    (gateway.home.root / "silent-0").touch()

    connections = gateway.ask("mcp").data

    assert connections["missing"] == [0]
    assert [row["worker"] for row in connections["connections"]] == [1, 1]


# -- the configuration -------------------------------------------------------------------------------------------------


def test_a_reload_reaches_the_workers_that_run_and_those_that_come_later(prepare: Prepare) -> None:
    gateway = prepare(agent={"restart_drain_timeout": 3600.0}).start()
    gateway.rewrite(
        agent={"restart_drain_timeout": 0.5, "max_turns": 5},
        mcp_servers={"files": {"command": "true", "env": {"TOKEN": "${TOKEN}"}}},
        supervisor={"workers": 3, "heartbeat_seconds": 0.5},
    )
    gateway.home.env.write_text("TOKEN=hush-hush\n")
    gateway.home.env.chmod(0o600)

    answer = gateway.ask("reload")

    assert answer.error is None
    assert {change["key"]: change["when"] for change in answer.data["changes"]} == {
        "agent.restart_drain_timeout": "now",
        "agent.max_turns": "next_turn",
        "mcp_servers.files": "next_turn",
        "supervisor.workers": "restart",
    }
    assert answer.data["missing"] == []
    assert [row["server"] for row in gateway.ask("mcp").data["connections"]] == ["files"] * 4
    assert gateway.ask("mcp.restart", server="files").error is None
    os.kill(gateway.tell_slot(0, "who")["pid"], signal.SIGKILL)
    eventually(lambda: gateway.workers()[0]["restarts"] == 1)
    gateway.settled()
    for slot, times in ((0, 1), (1, 2)):
        now = told(gateway, slot)
        assert (now["config"]["agent"]["max_turns"], now["environment"]["TOKEN"]) == (5, "hush-hush")
        assert now["configurations"] == times
        assert now["config"]["supervisor"]["workers"] == 2
    assert gateway.ask("drain.plan").data["timeout_s"] == 0.5


def test_the_same_configuration_again_disturbs_no_worker(gateway: GatewayProcess) -> None:
    gateway.rewrite()

    assert gateway.ask("reload").data == {"changes": [], "missing": []}
    assert told(gateway, 0)["configurations"] == 1


@pytest.mark.parametrize("text", ["agent: {max_turns: none}", "mcp_servers: {", "\0"])
def test_a_configuration_that_cannot_be_used_changes_nothing_and_says_why(gateway: GatewayProcess, text: str) -> None:
    gateway.rewrite(text)

    answer = gateway.ask("reload")

    assert answer.error == RefusalCode.CONFIGURATION
    assert str(gateway.home.config) in answer.why
    assert told(gateway, 0)["configurations"] == told(gateway, 1)["configurations"] == 1


def test_a_hangup_reloads_and_the_log_tells_what_changed(gateway: GatewayProcess) -> None:
    gateway.rewrite("agent: {max_turns: none}")
    gateway.process.send_signal(signal.SIGHUP)
    (line,) = logged(gateway, "configuration not reloaded; nothing changed")
    assert "agent.max_turns" in line["why"]

    gateway.rewrite(agent={"restart_drain_timeout": 1.0, "max_turns": 5})
    gateway.process.send_signal(signal.SIGHUP)

    (line,) = logged(gateway, "configuration reloaded")
    assert line["changes"] == ["agent.max_turns: 90 → 5 (next_turn)"]
    assert logged(gateway, "the workers have the configuration")[0]["missing"] == []
    assert told(gateway, 0)["config"]["agent"]["max_turns"] == 5


@pytest.mark.parametrize(
    "key", ["a3f09c1d7e5b428896f1c0d2e3b4a5968778695a4b3c2d1e", "abcdefNEWKEY0123456789", "sk-hush-hush"]
)
def test_a_key_in_the_place_of_its_variables_name_is_in_no_answer_and_in_no_log(
    gateway: GatewayProcess, key: str
) -> None:
    gateway.rewrite(f"api_server: {{key_env: {key}}}\nmodel: {{provider: demo, api_key: {key}}}")

    answer = gateway.ask("reload")
    gateway.process.send_signal(signal.SIGHUP)
    logged(gateway, "configuration not reloaded; nothing changed")
    refused = gateway.ask("drain", then="restart")

    assert answer.error == refused.error == "configuration"
    assert "looks like a key" in answer.why
    written = "".join(path.read_text() for path in gateway.home.logs.glob("*"))
    assert key not in f"{answer.why} {refused.why} {written}"


def test_a_configuration_that_takes_too_long_to_read_keeps_nobody_waiting(gateway: GatewayProcess) -> None:
    os.mkfifo(gateway.home.config)  # whoever opens it to read waits for a writer

    answer = gateway.ask("reload")

    assert (answer.error, answer.why) == ("busy", "the configuration could not be read within 1.5 s")
    assert gateway.status()["phase"] == "serving"
    processes = gateway.marked()
    gateway.home.config.open("w").close()
    gateway.process.terminate()
    assert gateway.end()[0] == 0
    wait_gone(processes)
