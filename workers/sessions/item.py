"""A piece of work in a session's mailbox, purely: how far it has come, and how it is to end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from workers.turns import TurnError, TurnState


class Stage(IntEnum):
    """How far a piece of work has come; it only ever goes on."""

    STORING = 0  # counted in; it is on its way to disk, and waits for that
    WAITING = 1  # its turn may come
    RUNNING = 2
    ENDING = 3  # its end is on its way to disk: no cut changes it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOff:
    """A piece of work must end now, whatever it waits for."""

    state: TurnState  # cancelled | interrupted
    error: TurnError
    stays: bool = False  # the worker goes on: what the turn's tools still do is to end
    unrecorded: bool = False  # no mark was made of the cut: on disk the turn stays as it is, for its next owner to tell


class Item:
    """A piece of work, as far as the mailbox decides on it.

    Args:
        turn_id: its name in the mailbox.
        queued: it is on disk as queued, or not at all, so it may wait however long; else as running, and it may begin
            while it is on its way there.
        stored: it is on disk, or is never.
    """

    is_turn = True  # kept on disk and cut by a drain; a command is neither

    def __init__(self, turn_id: str, *, queued: bool, stored: bool = False) -> None:
        self.turn_id = turn_id
        self.queued = queued
        self.stored = stored
        self.stage = Stage.WAITING if stored else Stage.STORING
        self.left = False  # it does not begin here
        self.sealed = False  # its end waits for a cut
        self.recorded = False  # the supervisor recorded its cut: it ends as cut, whatever it came to
        self.cutoff: CutOff | None = None

    @property
    def started(self) -> bool:
        """Whether the actor performs it."""
        return self.stage >= Stage.RUNNING

    @property
    def begun(self) -> bool:
        """Whether it runs, or is on disk as running: a drain waits for it."""
        return self.stage >= Stage.RUNNING or not self.queued

    def ending(self) -> None:
        """Its end is on its way to disk."""
        self.stage = Stage.ENDING
