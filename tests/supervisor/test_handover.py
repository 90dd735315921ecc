"""What one life of the supervisor leaves to the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.restart.handover import VARIABLE, CommandLine, Handover, HandoverUnusable, take

NEXT_LIFE = """
import os, sys
from hermes_actors.restart.handover import VARIABLE, take
handover = take()
assert VARIABLE not in os.environ
assert not any(map(os.get_inheritable, handover.descriptors))
print(os.getpid(), handover.boot, [os.pread(one, 9, 0).decode() for one in (handover.lock, *handover.listeners)])
"""
THIS_LIFE = f"""
import os, sys
from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.restart.handover import CommandLine, Handover
def opened(text):
    one = os.memfd_create(text)
    os.write(one, text.encode())
    return one
server = ForkServer(pid=1, address="/nowhere", alive=opened("alive"), code="")
handover = Handover(boot="boot-2", lock=opened("lock"), listeners=(opened("a"), opened("b")), fork_server=server)
print(os.getpid())
handover.exec(CommandLine(words=(sys.executable, "-c", {NEXT_LIFE!r}), environment=dict(os.environ)))
"""


def left(tmp_path: Path, **fields: object) -> dict[str, object]:
    """As an earlier life of this process would have left it."""
    (tmp_path / "lock").touch()
    lock, alive = (os.open(tmp_path / "lock", os.O_RDONLY) for _ in range(2))
    server = ForkServer(pid=1, address="/nowhere", alive=alive, code="")
    handover = Handover(boot="boot-2", lock=lock, listeners=(), fork_server=server)
    return {**asdict(handover), "pid": os.getpid(), **fields}


def test_the_same_process_goes_on_with_the_descriptors_that_were_left() -> None:
    ran = subprocess.run([sys.executable, "-c", THIS_LIFE], capture_output=True, text=True, timeout=20)

    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert second == f"{first} boot-2 ['lock', 'a', 'b']"


def test_a_process_is_started_again_as_it_was_started() -> None:
    code = "from hermes_actors.restart.handover import CommandLine; print(*CommandLine.of_this_process().words)"

    ran = subprocess.run([sys.executable, "-X", "dev", "-c", code, "a b"], capture_output=True, text=True, timeout=20)

    assert ran.stdout.split() == [sys.executable, "-X", "dev", "-c", *code.split(), "a", "b"]


def test_a_program_that_cannot_be_run_is_an_error_and_this_life_goes_on(tmp_path: Path) -> None:
    fields = left(tmp_path)
    server = ForkServer(pid=1, address="/nowhere", alive=fields["fork_server"]["alive"], code="")  # type: ignore[index]  # plain data
    handover = Handover(boot="b", lock=fields["lock"], listeners=(), fork_server=server)  # type: ignore[arg-type]  # plain data

    with pytest.raises(FileNotFoundError):
        handover.exec(CommandLine(words=(str(tmp_path / "gone"),), environment={}))
    for descriptor in handover.descriptors:
        os.close(descriptor)


@pytest.mark.parametrize("text", [None, "", "no json", "7", "{}", '{"pid": 1}'])
def test_what_nobody_left_to_this_process_is_nothing(monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if text is not None:
        monkeypatch.setenv(VARIABLE, text)

    assert take() is None
    assert VARIABLE not in os.environ


@pytest.mark.parametrize("fields", [{"lock": 987654}, {"listeners": None}, {"fork_server": {}}, {"more": 1}])
def test_what_this_release_does_not_understand_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fields: dict[str, object]
) -> None:
    plain = left(tmp_path, **fields)
    monkeypatch.setenv(VARIABLE, json.dumps(plain))

    with pytest.raises(HandoverUnusable):
        take()
    assert VARIABLE not in os.environ
