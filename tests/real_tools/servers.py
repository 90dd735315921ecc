"""The tool servers of others that the suite meets: how each is had, a call of it, and what its model must be sent."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fakes.outside import npm_folder, python_env

HELLO = "hello from a file"
NPM_SCOPE, NPM_VERSION = "@modelcontextprotocol", "2026.8.31"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolServer:
    """A server, and what is expected of it."""

    name: str
    package: str  # with its version
    kind: Literal["pip", "npm"]
    command: str  # as the package installs it
    tools: int  # that it lists
    call: str  # the tool that is called
    once: str  # what its result says; exactly once, or it was sent twice
    given: Callable[[Path], Mapping[str, Any]] = lambda _: {}  # its arguments, by the folder of the run
    arguments: Callable[[Path], list[str]] = lambda _: []  # of the command
    env: Mapping[str, str] = field(default_factory=dict)
    instructions: str = ""  # words of the server's instructions
    left_out: frozenset[str] = frozenset()  # tools that no model can use

    def installed(self, folder: Path) -> str:
        """The command, installed below ``folder``.

        Raises:
            Unavailable: it is not to be had.
        """
        here = folder / self.name
        if self.kind == "pip":
            return str(python_env(here, self.package).with_name(self.command))
        return str(npm_folder(here, self.package) / self.command)

    def entry(self, folder: Path, work: Path) -> dict[str, Any]:
        """Of ``mcp_servers``."""
        return {"command": self.installed(folder), "args": self.arguments(work), "env": dict(self.env)}


def repository(work: Path) -> str:
    """A git repository without a commit."""
    path = work / "repository"
    if not path.exists():
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(path)], check=True)
    return str(path)


def text_file(work: Path) -> str:
    """A file that says :data:`HELLO`."""
    path = work / "hello.txt"
    path.write_text(HELLO + "\n")
    return str(path)


def _official(name: str, **fields: Any) -> ToolServer:
    package = f"{NPM_SCOPE}/server-{name}@{NPM_VERSION}"
    return ToolServer(name=name, package=package, kind="npm", command=f"mcp-server-{name}", **fields)


NOWHERE = "http://127.0.0.1:9"  # the discard port: refuses at once
SERVERS = (
    _official(
        "everything", tools=13, call="get-sum", given=lambda _: {"a": 40, "b": 2}, once="42",
        instructions="Everything Server", left_out=frozenset({"simulate-research-query"}),
    ),
    _official(
        "filesystem", tools=14, call="read_text_file", given=lambda work: {"path": text_file(work)},
        once=HELLO, arguments=lambda work: [str(work)],
    ),
    _official("memory", tools=9, call="read_graph", once="entities"),
    _official(
        "sequential-thinking", tools=1, call="sequentialthinking", once="thoughtHistoryLength",
        given=lambda _: {"thought": "one", "nextThoughtNeeded": False, "thoughtNumber": 1, "totalThoughts": 1},
    ),
    ToolServer(
        name="git", package="mcp-server-git==2026.10.19", kind="pip", command="mcp-server-git", tools=12,
        call="git_status", given=lambda work: {"repo_path": repository(work)}, once="No commits yet",
        arguments=lambda work: ["--repository", repository(work)],
    ),
    ToolServer(
        name="time", package="mcp-server-time==2026.10.19", kind="pip", command="mcp-server-time", tools=2,
        call="get_current_time", given=lambda _: {"timezone": "UTC"}, once="day_of_week",
        arguments=lambda _: ["--local-timezone", "UTC"],
    ),
    ToolServer(
        name="excel", package="excel-mcp-server==2.2.2", kind="pip", command="excel-mcp-server", tools=46,
        call="create_workbook", given=lambda work: {"path": str(work / "new.xlsx")}, once="new.xlsx",
        arguments=lambda _: ["stdio"], instructions="Work with Excel workbooks",
    ),
    ToolServer(
        name="redis", package="redis-mcp-server==0.5.1", kind="pip", command="redis-mcp-server", tools=53,
        call="get", given=lambda _: {"key": "a"}, once="Error retrieving key",
        arguments=lambda _: ["--url", "redis://127.0.0.1:9/0"],
    ),
    ToolServer(
        name="motherduck", package="mcp-server-motherduck==1.1.0", kind="pip", command="mcp-server-motherduck",
        tools=4, call="execute_query", given=lambda _: {"sql": "select 40 + 2 as answer"}, once="rowCount",
        arguments=lambda _: ["--db-path", ":memory:", "--read-write"], instructions="In-memory",
    ),
    ToolServer(
        name="atlassian", package="mcp-atlassian==0.23.1", kind="pip", command="mcp-atlassian", tools=98,
        call="jira_get_user_profile", given=lambda _: {"user_identifier": "ada"}, once="user_identifier",
        env={
            "JIRA_URL": NOWHERE, "JIRA_PERSONAL_TOKEN": "none",
            "CONFLUENCE_URL": NOWHERE, "CONFLUENCE_PERSONAL_TOKEN": "none",
        },
    ),
)  # fmt: skip
