"""What one life of the supervisor leaves to the next over an exec: the same process, and some open descriptors.

An exec keeps the process id, its children, and the descriptors that are marked to stay open; everything else is gone.
The next life finds what is left to it in :data:`VARIABLE`, as it would find the sockets of a service manager in
``LISTEN_FDS`` of sd_listen_fds(3).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NoReturn, Self

from hermes_actors.pool import fork_server
from hermes_actors.pool.fork_server import ForkServer
from hermes_actors.wire.failpoints import point

VARIABLE = "HERMES_ACTORS_HANDOVER"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # that the supervisor handles


class HandoverUnusable(Exception):
    """Something was left that this life does not understand: only a new process can start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLine:
    """How this process was started, and is again."""

    words: tuple[str, ...]
    environment: Mapping[str, str]

    @classmethod
    def of_this_process(cls) -> Self:
        """The interpreter, its options, the program and its arguments; the environment as it is now."""
        return cls(words=(sys.executable, *sys.orig_argv[1:]), environment=dict(os.environ))


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What is left, as descriptors; they belong to the object."""

    boot: str  # id of the next life: what its fork server starts is marked with it
    lock: int  # on the home
    listeners: tuple[int, ...]  # public sockets that listen
    fork_server: ForkServer

    def exec(self, command: CommandLine) -> NoReturn:
        """Become the next life.

        The caller has blocked :data:`SIGNALS`: they wait until the next life can handle them.

        Raises:
            OSError: the program cannot be run.
        """
        left = json.dumps(asdict(self) | {"pid": os.getpid()})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in self.descriptors:
            os.set_inheritable(descriptor, True)
        point("exec")
        os.execve(  # noqa: S606  # a shell has no part in it
            command.words[0], command.words, {**command.environment, VARIABLE: left}
        )

    def discard(self) -> None:
        """There is no next life."""
        fork_server.end(self.fork_server)
        for descriptor in (self.lock, *self.listeners):
            os.close(descriptor)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All of them."""
        return (self.lock, self.fork_server.alive, *self.listeners)


def take() -> Handover | None:
    """What an earlier life of this process left; removed from the environment, so that no other process gets it.

    Call it once, before anything is started or opened.

    Raises:
        HandoverUnusable: another release left it.
    """
    try:
        fields = json.loads(os.environ.pop(VARIABLE, "null"))
    except ValueError:  # not of ours
        return None
    if not isinstance(fields, dict) or fields.pop("pid", None) != os.getpid():
        return None  # nothing, or meant for another process
    try:
        fields["listeners"] = tuple(fields["listeners"])
        fields["fork_server"] = ForkServer(**fields["fork_server"])
        handover = Handover(**fields)
        for descriptor in handover.descriptors:
            os.set_inheritable(descriptor, False)
    except (TypeError, KeyError, OSError) as error:
        raise HandoverUnusable(f"what this process left before its restart cannot be used: {error}") from error
    return handover
