"""Fault points: all of them stand in the code, off they do nothing, on they hold whoever comes by."""

from __future__ import annotations

import ast
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hermes_actors.wire import failpoints as faults

ROOT = Path(__file__).parents[2]
BOUND_S = 10.0


def literals(package: str) -> set[str]:
    """All texts in the code of a package."""
    paths = [path for path in (ROOT / package).rglob("*.py") if path != Path(faults.__file__)]
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return {str(node.value) for node in nodes if isinstance(node, ast.Constant)}


def pointed_at(package: str) -> set[str]:
    """The names that ``point`` is called with literally."""
    nodes = (node for path in (ROOT / package).rglob("*.py") for node in ast.walk(ast.parse(path.read_text())))
    calls = (node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
    first = (call.args[0] for call in calls if call.func.id == "point" and call.args)  # type: ignore[attr-defined]  # a Name
    return {str(argument.value) for argument in first if isinstance(argument, ast.Constant)}


@pytest.mark.parametrize(
    ("package", "points"),
    [("hermes_actors", faults.SUPERVISOR_POINTS), ("workers", faults.WORKER_POINTS)],
)
def test_every_point_stands_in_the_code_of_its_process_and_no_other_does(
    package: str, points: Mapping[str, str]
) -> None:
    assert points.keys() - literals(package) == set()
    assert pointed_at(package) <= points.keys()


def test_a_point_does_nothing_unless_the_environment_names_a_listener() -> None:
    assert faults.VARIABLE not in os.environ
    assert faults.point.__code__.co_code == faults._go_on.__code__.co_code
    faults.point("turn.begun")


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.settimeout(BOUND_S)
        listening.bind(str(tmp_path / "faults.sock"))
        listening.listen()
        yield listening


def test_who_comes_to_a_point_tells_the_listener_and_stands_still_until_it_is_let_go(listener: socket.socket) -> None:
    past = threading.Event()

    def come() -> None:
        faults._telling(listener.getsockname())("turn.begun")
        past.set()

    threading.Thread(target=come, daemon=True).start()
    held, _ = listener.accept()
    with held, held.makefile("rb") as said:
        assert said.readline() == b"%d turn.begun\n" % os.getpid()
        assert not past.is_set()

    assert past.wait(BOUND_S)


def test_work_goes_on_where_nobody_listens(tmp_path: Path) -> None:
    faults._telling(str(tmp_path / "nobody.sock"))("turn.begun")
