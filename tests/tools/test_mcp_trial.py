"""One start of one server, apart from any session."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.mcp_counting import BOUND_S, Counting, free_port

from hermes_actors.config.model import McpServer, ToolFilter
from workers.tools.trial import HIDDEN, Trial, trial

SCRIPT = Path(__file__).parents[1] / "fakes/mcp_offering_server.py"


def offering(mode: str, **settings: Any) -> McpServer:
    return McpServer(**{"command": sys.executable, "args": (str(SCRIPT), mode), "connect_timeout": BOUND_S, **settings})


async def tried(entry: McpServer, home: Path) -> Trial:
    return await trial("s", entry, {}, mark="test-trial:", home=home)


def seen(report: Trial) -> dict[str, str]:
    return {step.what: step.seen for step in report.steps}


async def test_a_trial_says_each_step_and_leaves_nothing_behind(tmp_path: Path) -> None:
    report = await tried(offering("full", resources=True, tools=ToolFilter(exclude=("look", "lok"))), tmp_path)

    steps = seen(report)
    assert report.ok
    assert steps["command"] == sys.executable
    assert steps["start"].startswith("answered in ")
    assert steps["protocol"] == "2026-07-28, offering 1.2.3"
    assert steps["tools"].startswith("2 offered, about ")
    assert steps["tools"].endswith("; 1 hidden by the configuration")
    assert steps["prompts"] == "/mcp__s__plain, /mcp__s__weather, /mcp__s__broken"
    assert steps["resources"] == "offered as two tools"
    assert steps["instructions"].endswith("of which models get 2000")
    assert [(tool.name, tool.left_out) for tool in report.tools] == [
        ("mcp__s__list_resources", None),
        ("mcp__s__read_resource", None),
        (None, HIDDEN),
    ]
    assert all(tool.tokens > 20 for tool in report.tools if tool.name)
    assert report.warnings == ("tools.exclude: no tool is named 'lok'; did you mean look?",)
    assert not list(tmp_path.iterdir())
    assert not [process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info)]


async def test_a_trial_says_what_the_configuration_keeps_from_models(tmp_path: Path) -> None:
    steps = seen(await tried(offering("full", instructions=False), tmp_path))

    assert steps["resources"] == "some may be there; resources: true offers them"
    assert steps["instructions"].endswith("which no model gets (instructions: false)")


@pytest.mark.parametrize(
    ("entry", "what", "why", "detail"),
    [
        (McpServer(command="no-such-program"), "command", "no-such-program: it is not on PATH", ""),
        (McpServer(command="/no/such/program"), "command", "/no/such/program: there is no such program", ""),
        (offering("loud"), "start", "", "loading\nError: no contexts are defined\x1b[31m in kubeconfig"),
        (McpServer(command="sleep", args=("9",), connect_timeout=0.2), "start", "no answer within 0.2 s", ""),
    ],
)
async def test_a_trial_of_a_server_that_does_not_start_says_where_and_why(
    tmp_path: Path, entry: McpServer, what: str, why: str, detail: str
) -> None:
    report = await tried(entry, tmp_path)

    assert not report.ok
    assert not report.steps[-1].ok
    assert report.steps[-1].what == what
    assert report.steps[-1].seen.startswith(why)
    assert "logs/" not in report.steps[-1].seen
    assert report.detail == detail


async def test_a_trial_of_a_remote_server_does_not_show_what_its_variables_hold(
    tmp_path: Path, counting: Counting
) -> None:
    counting.start_http(port := free_port())
    entry = McpServer(url=f"http://127.0.0.1:{port}/${{PLACE}}")

    report = await trial("s", entry, {"PLACE": "mcp"}, mark="test-trial:", home=tmp_path)

    assert report.ok
    assert seen(report)["address"] == f"http://127.0.0.1:{port}/${{PLACE}}"
