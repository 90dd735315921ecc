"""Which module may import which: the process boundary is the package boundary, and the core is pure."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
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
    *(f"hermes_actors.operations.{name}" for name in ("operation", "plain", "requests", "results", "workers")),
)
FLOORS: tuple[tuple[str, ...], ...] = (  # a room imports of the floors below its own only
    (
        *(
            f"hermes_actors.{room}"
            for room in ("background", "home", "operations", "terminal", "times", "tracebacks", "wire")
        ),
        *(f"workers.{room}" for room in ("json_depth", "kept_json", "session_keys", "turn_ids")),
    ),
    ("hermes_actors.core", "hermes_actors.disk", "hermes_actors.logs", "workers.turns"),
    ("hermes_actors.config", "hermes_actors.operators", "workers.conversations", "workers.store"),
    ("hermes_actors.pool", "hermes_actors.records", "workers.gateway", "workers.models"),
    ("hermes_actors.restart", "workers.ingress", "workers.probe", "workers.tools", "workers.turn_errors"),
    ("hermes_actors.supervisor", "workers.runtimes"),
    ("hermes_actors.cli", "workers.sessions"),
    ("workers.routing",),
    ("workers.duties",),
    ("workers.worker",),
    ("workers.main",),
)
NAMING_WORKERS = ("pool.py", "probe.py")  # they start processes whose code is in the workers' package
SHARED_WITH_WORKERS = (
    "hermes_actors.background",
    "hermes_actors.disk",
    "hermes_actors.operations",
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


@pytest.mark.parametrize("path", modules("hermes_actors"), ids=named)
def test_the_records_alone_know_which_database_has_them(path: Path) -> None:
    if not {"records", "disk"} & set(path.parts) and path.name != "tracebacks.py":  # which knows whose words are safe
        assert "sqlite3" not in imported(path)


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
        "workers/sessions/item.py",
        "workers/sessions/mailbox.py",
        "workers/sessions/passivation.py",
        "workers/sessions/resending.py",
    ],
)
def test_the_decisions_of_a_turn_are_pure(path: str) -> None:
    assert not {name for name in imported(ROOT / path) if name.split(".")[0] in IMPURE}


# -- floors ------------------------------------------------------------------------------------------------------------


def imports() -> Mapping[str, set[str]]:
    """Module -> the modules of ours that it imports, those for types alone among them."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in OURS}

    def module_of(name: str) -> str:
        while name not in paths and "." in name:
            name = name.rpartition(".")[0]
        return name

    return {
        module: {module_of(name) for name in imported(path) if is_below(name, *PACKAGES)} - {module, *PACKAGES}
        for module, path in paths.items()
        if module not in PACKAGES
    }


PACKAGES = ("hermes_actors", "workers")
OURS = modules(*PACKAGES)
IMPORTS = imports()
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("module", IMPORTS)
def test_a_module_imports_of_its_own_room_and_of_floors_below_alone(module: str) -> None:
    room = room_of(module)
    upward = {name for name in IMPORTS[module] if room_of(name) != room and FLOOR_OF[room_of(name)] >= FLOOR_OF[room]}

    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' imports '.join(reversed(error.args[1]))}")


def test_every_room_that_has_a_floor_is_there() -> None:
    assert {room_of(module) for module in IMPORTS} == set(FLOOR_OF)


def test_no_class_name_means_two_things() -> None:
    where: dict[str, list[str]] = {}
    for path in modules("hermes_actors", "workers"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(named(path))

    assert not {name: paths for name, paths in where.items() if len(paths) > 1}
