"""Compares the registry with a shard's file, each time that the file is opened.

If the file has less than the registry saw in it, it lost something: the registry notes that, and the sessions concerned
say so. If the file has a session that the registry does not know, the registry lost it, and gets it back from the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from hermes_actors.core.sessions import marks
from hermes_actors.core.sessions.lives import Incident
from hermes_actors.core.sessions.losses import NOT_KNOWN, is_behind, lost_of_shard
from hermes_actors.core.sessions.marks import UNMARKED
from hermes_actors.core.state import SessionEntry
from hermes_actors.records.registry import Registry
from hermes_actors.wire.records import Found, LatestTurn

ALL = 0  # the turn since which a shard attests its sessions

log = structlog.get_logger(__name__)


class Rebuilding:
    """Notes what was lost, in the open transaction of the registry.

    Args:
        registry: as it was opened at this start.
        threshold: how many strikes suspend, at this moment.
        now: seconds since the epoch.
    """

    def __init__(self, registry: Registry, threshold: Callable[[], int], now: Callable[[], float] = time.time) -> None:
        self._registry = registry
        self._losses = registry.losses
        self._threshold = threshold
        self._now = now
        self._before = tuple(owner.fence for owner in registry.owners())  # this start, by shard
        self._since: dict[int, int] = {}  # the turn after which a shard was asked to attest its sessions

    def opened(self, shard: int, fence: int, found: Found) -> tuple[int, str | None]:
        """An owner opened a shard's file: the turn since which it must attest its sessions, and what was lost."""
        known = self._losses.known(shard)
        lost = lost_of_shard(known, found)
        if lost is not None:
            what, why = lost
            until = None if what == "all" else found.until
            self._losses.add(at=self._now(), shard=shard, what=what, why=why, set_aside=found.set_aside, until=until)
        if self._before[shard] < found.fence <= self._registry.floor:  # of an earlier life
            self._registry.fell_behind("its file is older than it was, or lost its write-ahead log (-wal)")
        self._losses.opened(shard, fence, found.turn)
        self._since[shard] = found.turn if known.turn == NOT_KNOWN else min(known.turn, found.turn)
        return self._since[shard], None if lost is None else lost[1]

    def attested(self, shard: int, latest: Sequence[LatestTurn]) -> int | None:
        """Take the sessions of a shard's file; returns the turn since which to attest again, None: not needed.

        If the registry lost a session that it had to know, it may have lost others.
        """
        since = self._since.get(shard, 0)
        again = None
        refound = 0
        for one in latest:
            entry = self._registry.session(one.key)
            if is_behind(entry, one):
                self._refind(entry, shard, one)
                refound += 1
                if one.number <= since:
                    again = ALL
        if refound:
            number = self._registry.fell_behind("it does not know sessions that the shard files have")
            self._losses.found(number, refound)
            log.warning("sessions that the registry had lost were found again", shard=shard, sessions=refound)
        return again

    def _refind(self, entry: SessionEntry | None, shard: int, latest: LatestTurn) -> None:
        number = self._registry.fell_behind("it does not know sessions that the shard files have")
        standing = UNMARKED if entry is None else UNMARKED._replace(former_id=entry.marks.former_id)
        if latest.cut_by is not None:
            standing = marks.cut(standing, latest.cut_by, latest.turn_id, latest.last_at)
        self._registry.refind(
            SessionEntry(
                key=latest.key,
                session_id=latest.session_id,
                principal=latest.principal,
                shard=shard,
                created_at=latest.created_at if entry is None else entry.created_at,
                last_active_at=latest.last_at if entry is None else entry.last_active_at,
                marks=standing,
                refound=number,
            )
        )
        incident = Incident(
            key=latest.key,
            at=self._now(),
            boot=self._registry.history.boot,
            what="found",
            reason=None,
            turn_id=None,
            session_id=latest.session_id,
            strikes=0,
            threshold=self._threshold(),
        )
        self._registry.history.add(incident)
