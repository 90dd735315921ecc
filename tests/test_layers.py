"""Which module may import which: the process boundary is the package boundary, and the core is pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

IMPURE = {
    "asyncio",
    "os",
    "time",
    "threading",
    "logging",
    "socket",
    "subprocess",
    "random",
    "sqlite3",
    "signal",
    "psutil",
}
IMPURE |= {"pykka", "msgpack", "filelock", "structlog", "uvloop", "aiohttp", "multiprocessing"}
PURE_FLOOR = (
    "hermes_actors.times",
    *(f"hermes_actors.wire.{name}" for name in ("messages", "records", "refusals", "tags", "sharding")),
)
NAMING_WORKERS = ("pool.py", "probe.py")  # they start processes whose code is in the workers' package
SHARED_WITH_WORKERS = (
    "hermes_actors.background",
    "hermes_actors.disk",
    "hermes_actors.times",
    "hermes_actors.wire",
    "hermes_actors.config.model",
    "hermes_actors.config.variables",
    "hermes_actors.home",
    "hermes_actors.logs",
    "hermes_actors.pool.reaper",
)


def modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """The dotted names of all modules a file imports, wherever in the file it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", modules("workers"), ids=named)
def test_workers_stand_on_the_wire_and_the_configuration_types_alone(path: Path) -> None:
    of_ours = {name for name in imported(path) if is_below(name, "hermes_actors")}

    assert not {name for name in of_ours if not is_below(name, *SHARED_WITH_WORKERS)}


@pytest.mark.parametrize("path", modules("hermes_actors"), ids=named)
def test_the_supervisor_imports_no_worker_and_only_the_pool_and_the_trial_name_one(path: Path) -> None:
    assert not {name for name in imported(path) if is_below(name, "workers")}
    assert path.name in NAMING_WORKERS or '"workers.' not in path.read_text()


@pytest.mark.parametrize("path", modules("hermes_actors/core"), ids=named)
def test_the_core_is_pure(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] in IMPURE}
    assert not {
        name
        for name in imported(path)
        if is_below(name, "hermes_actors") and not is_below(name, "hermes_actors.core", *PURE_FLOOR)
    }


@pytest.mark.parametrize("module", PURE_FLOOR)
def test_what_the_core_stands_on_is_pure(module: str) -> None:
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")

    assert not {name for name in imported(path) if name.split(".")[0] in IMPURE}
    assert not {name for name in imported(path) if is_below(name, "hermes_actors") and not is_below(name, *PURE_FLOOR)}


@pytest.mark.parametrize("path", modules("hermes_actors/wire"), ids=named)
def test_the_wire_stands_on_nothing_of_ours(path: Path) -> None:
    assert not {
        name for name in imported(path) if is_below(name, "hermes_actors") and not is_below(name, "hermes_actors.wire")
    }


@pytest.mark.parametrize("path", [p for p in modules("hermes_actors", "workers") if "cli" not in p.parts], ids=named)
def test_nothing_imports_the_command_lines(path: Path) -> None:
    assert not {name for name in imported(path) if is_below(name, "hermes_actors.cli")}


@pytest.mark.parametrize("path", modules("hermes_actors", "workers"), ids=named)
def test_the_mcp_sdk_is_imported_by_the_tools_alone(path: Path) -> None:
    if "tools" not in path.parts:
        assert not {name for name in imported(path) if is_below(name, "mcp", "mcp_types")}


@pytest.mark.parametrize(
    "path",
    [
        "workers/runtimes/chat/machine.py",
        "workers/runtimes/chat/past.py",
        "workers/runtimes/runtime.py",
        "workers/runtimes/transcript.py",
        "workers/runtimes/chat/errors.py",
        "workers/turn_errors.py",
        "workers/sessions/passivation.py",
    ],
)
def test_the_decisions_of_a_turn_are_pure(path: str) -> None:
    assert not {name for name in imported(ROOT / path) if name.split(".")[0] in IMPURE}
