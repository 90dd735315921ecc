"""Strikes: how often in a row a restart or a crash cut each session's running turn.

A session that is cut again and again is probably the reason for the restarts, or is stuck, and people restart the
gateway for that. At the threshold it leaves the ledger and is suspended. A delivered success clears its strikes; a
start alone never does. Every function returns the same ledger where nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from hermes_actors.wire.records import CutTurn

Cause = Literal["restart_timeout", "shutdown_timeout", "crash"]

CAUSES_KEPT = 10  # the last ones of a session; its count goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """The strikes of one session."""

    count: int  # at least 1
    causes: tuple[Cause, ...]  # of the last strikes, the latest at the end
    last_cut: str  # id of the turn that the last strike was for
    last_at: float  # when that was: seconds since the epoch, in whole milliseconds


@dataclass(frozen=True, slots=True)
class Ledger:
    """The entries of all sessions that have strikes, by session key. Two ledgers with the same entries are equal."""

    entries: Mapping[str, Entry] = field(default_factory=dict)

    def count(self, key: str) -> int:
        """The strikes of a session."""
        entry = self.entries.get(key)
        return entry.count if entry else 0


def cut(ledger: Ledger, cuts: Iterable[CutTurn], cause: Cause, at: float) -> Ledger:
    """One strike more for each session whose turn was cut; ``at`` in seconds since the epoch.

    A turn strikes once, however often and by whichever process it is reported: its session runs no other turn before
    all reports of the cut have arrived, so the id of the last cut turn is enough to know a repeat.
    """
    entries = dict(ledger.entries)
    changed = False
    for turn in cuts:
        before = entries.get(turn.key)
        if before is None or before.last_cut != turn.turn_id:
            entries[turn.key] = _struck(before, turn.turn_id, cause, at)
            changed = True
    return Ledger(entries) if changed else ledger


def _struck(before: Entry | None, turn_id: str, cause: Cause, at: float) -> Entry:
    causes = (*before.causes, cause) if before else (cause,)
    return Entry(
        count=before.count + 1 if before else 1,
        causes=causes[-CAUSES_KEPT:],
        last_cut=turn_id,
        last_at=_whole_ms(at),
    )


def clear(ledger: Ledger, keys: Iterable[str]) -> Ledger:
    """Clear the strikes of sessions: after a delivered success, a reset, or an operator's request."""
    struck = ledger.entries.keys() & set(keys)
    return _without(ledger, struck) if struck else ledger


def clear_idle(
    ledger: Ledger, busy: AbstractSet[str], *, threshold: int, now: float, cut_since: float = math.inf
) -> Ledger:
    """Clear the strikes of sessions that were idle when the supervisor stopped: these are not stuck.

    A session that reached the threshold keeps its strikes, idle or not, and the next start suspends it. A hold that was
    cancelled can leave such a session: it cut a turn, but no start came after it.

    Args:
        ledger: with the strikes of this stop, or of the crash that is recovered from, in it already.
        busy: keys of the sessions that the stop or crash cut, or that had a message waiting. Where part of the disk
            could not be asked, the keys that belong there too.
        threshold: so many strikes stay.
        now: seconds since the epoch. Strikes from later on are of a clock that ran ahead and was set back, so old,
            unless the stop began later too.
        cut_since: when the stop began, in seconds since the epoch. Strikes from then on belong to this stop and stay.
            After a kill between the strikes and the end of a stop, the next start finds nothing running, and must not
            take the sessions that the stop cut for idle ones.
    """
    since, present = _whole_ms(cut_since), _whole_ms(now)
    idle = {
        key
        for key, entry in ledger.entries.items()
        if key not in busy and entry.count < threshold and (entry.last_at < since or entry.last_at > present >= since)
    }
    return _without(ledger, idle) if idle else ledger


def suspended_at(
    ledger: Ledger, threshold: int, among: Callable[[str], bool] = lambda _: True
) -> tuple[Ledger, tuple[str, ...]]:
    """The ledger without the sessions that have so many strikes, and their keys in order: those are suspended.

    Args:
        ledger: with all strikes.
        threshold: how many.
        among: whether no turn of a session can be about to succeed.
    """
    stuck = {key for key, entry in ledger.entries.items() if entry.count >= threshold and among(key)}
    return (_without(ledger, stuck) if stuck else ledger), tuple(sorted(stuck))


def _without(ledger: Ledger, keys: AbstractSet[str]) -> Ledger:
    entries = dict(ledger.entries)
    for key in keys:
        del entries[key]
    return Ledger(entries)


def _whole_ms(at: float) -> float:
    """What a file can hold, so that a ledger is the same after it was written and read."""
    return round(at, 3)
