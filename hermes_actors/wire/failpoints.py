"""Named points of the gateway's work at which a test can hold a process, and kill it or another one.

Off, a point is the call of an empty function. The environment variable ``HERMES_ACTORS_FAULT`` turns the points on; it
has the path of a Unix socket on which a test listens, and workers inherit it. At each point the process connects and
sends ``<pid> <name>`` and a line feed. Its thread then waits until the connection ends or a byte comes back. So the
listener sees every point in order, counts them over the whole gateway, and chooses the one that matters. Without a
listener, work goes on.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping

VARIABLE = "HERMES_ACTORS_FAULT"
HELD_MOST_S = 120.0  # a listener that forgets a process must not hold it for ever

# What has been done, and what not yet, when a thread stands there.
SUPERVISOR_POINTS: Mapping[str, str] = {
    "registry.commit": "a batch is recorded, the registry's transaction not committed",
    "registry.committed": "it is committed, and nothing that follows from it has left the process",
    "ledger.draft": "the ledger changed, and nothing of that is on disk",
    "ledger.drafted": "the draft is written and synced, the file is the old one",
    "ledger.renamed": "the draft has the file's name, the directory is not synced",
    "ledger.synced": "the ledger is safe on disk",
    "answer.recorded": "what a worker asked for or told of is recorded, and it does not know yet",
    "announced": "the gateway serves, and the one who started it knows",
    "restart.prepared": "the next life of this process can begin, and nothing of this one has ended",
    "drain.sent": "the workers got the order to drain",
    "seal.sent": "the workers were asked what runs at the deadline",
    "seal.answered": "all have answered, and nothing of it is recorded",
    "cuts.recorded": "marks and strikes of what will be cut are on disk, and no worker knows",
    "cut.sent": "the workers got the order to cut",
    "stop.sent": "the workers got the order to end",
    "exec": "all is closed and left to the next life of this process, which is about to begin",
}
WORKER_POINTS: Mapping[str, str] = {
    "journal.commit": "a shard's transaction is done, not committed",
    "journal.committed": "it is committed, and those who wait for it do not know",
    "turn.admitted": "the message is on disk, and its caller does not know",
    "turn.parked": "the message is on disk for the time after a drain, and its caller does not know",
    "turn.begun": "the turn runs and has done nothing; it is on disk, or on its way there",
    "turn.append": "the model asked for tools, which is not in the transcript yet",
    "turn.appended": "it is in the transcript, and no tool was called",
    "model.answered": "the model's answer is here, and nothing of it on disk",
    "tool.call": "the call is on its way to the tool server",
    "tool.returned": "the tool's result is here, and nothing of it on disk",
    "turn.finish": "the turn came to its end, which is not on disk",
    "turn.finished": "the end is on disk, and its caller does not know",
    "turn.absolved": "where it was a success, the session's marks and strikes are cleared, on disk",
    "turn.told": "those who listen have the end",
    "drain.heard": "a drain began here: nothing begins any more",
    "drain.sealed": "it is decided which turns are cut, the supervisor does not know",
    "cut.begun": "the supervisor has recorded what is cut, nothing is cut",
    "recovery.found": "a shard of an earlier owner was read, nothing of it changed or told",
    "recovery.recorded": "the supervisor has recorded what was cut, nothing of it changed",
    "recovery.settled": "what an earlier owner left running is over, on disk",
}
POINTS: Mapping[str, str] = {**SUPERVISOR_POINTS, **WORKER_POINTS}


def _go_on(_name: str, /) -> None:
    pass


def _telling(path: str) -> Callable[[str], None]:
    def tell(name: str, /) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, contextlib.suppress(OSError):
            listener.settimeout(HELD_MOST_S)
            listener.connect(path)
            listener.sendall(b"%d %b\n" % (os.getpid(), name.encode()))
            listener.recv(1)

    return tell


point: Callable[[str], None] = _telling(_path) if (_path := os.environ.get(VARIABLE)) else _go_on
