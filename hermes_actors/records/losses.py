"""The table of what files lost, in the registry's file, written in the same transactions as the rest."""

from __future__ import annotations

from collections.abc import Mapping

from hermes_actors.core.sessions.losses import Known, What
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.results import Loss
from hermes_actors.records.database import RegistryDatabase

KEPT = 200  # losses

_LOSS = "n, at, shard, what, why, set_aside, until, sessions"
_FORGOTTEN = 1  # as the fence of an opening: lower than every real fence
_KNOWN = """
    SELECT opened, turn, opened = ?2 OR turn <> 0 OR EXISTS (SELECT 1 FROM sessions WHERE shard = ?1)
    FROM shards WHERE shard = ?1
"""  # sessions are spread evenly, so one of a shard is soon found, or there are few in all
_UNTOLD = f"SELECT {_LOSS} FROM losses WHERE shard = ? AND n > ? ORDER BY what = 'all' DESC, n DESC LIMIT 1"  # noqa: S608  # own words


class Losses:
    """The table of losses, and what the registry knows of shard files."""

    def __init__(self, database: RegistryDatabase) -> None:
        self._database = database

    # -- shard files -------------------------------------------------------------------------------------------------
    def known(self, shard: int) -> Known:
        """What is known of a shard's file."""
        known = self._database.row(_KNOWN, (shard, _FORGOTTEN))
        assert known is not None, shard
        opened, turn, is_used = known
        return Known(opened, turn, bool(is_used))

    def opened(self, shard: int, fence: int, turn: int) -> None:
        """An owner opened a shard's file, whose last turn has this number."""
        self._database.write("UPDATE shards SET opened = ?, turn = ? WHERE shard = ?", (fence, turn, shard))

    def forget_openings(self) -> None:
        """What was known of the files is lost: count each of them as used."""
        self._database.write("UPDATE shards SET opened = ?, turn = 0", (_FORGOTTEN,))

    def reached(self, turns: Mapping[int, int]) -> None:
        """Note the last turns of shards' files. ``turns``: shard -> number of the last turn."""
        rows = ((turn, shard) for shard, turn in turns.items())
        self._database.write_many("UPDATE shards SET turn = max(turn, ?) WHERE shard = ?", rows)

    # -- losses ------------------------------------------------------------------------------------------------------
    def add(
        self,
        *,
        at: float,
        shard: int | None,
        what: What,
        why: str,
        set_aside: str | None = None,
        until: float | None = None,
    ) -> int:
        """Note a loss; its number."""
        values = (at, shard, what, why, set_aside, until)
        into = "INSERT INTO losses (at, shard, what, why, set_aside, until, sessions)"
        number = self._database.write(f"{into} VALUES (?, ?, ?, ?, ?, ?, 0)", values).lastrowid
        self._database.write("DELETE FROM losses WHERE n <= (SELECT max(n) FROM losses) - ?", (KEPT,))
        assert number is not None
        return number

    def found(self, number: int, sessions: int) -> None:
        """Add to how many sessions were found again after a loss."""
        self._database.write("UPDATE losses SET sessions = sessions + ? WHERE n = ?", (sessions, number))

    def latest(self, limit: int) -> tuple[Loss, ...]:
        """The latest losses, the last one first."""
        rows = self._database.rows(f"SELECT {_LOSS} FROM losses ORDER BY n DESC LIMIT ?", (limit,))  # noqa: S608  # own words
        return tuple(Loss(*row) for row in rows)

    def of_shard(self, shard: int, since: float) -> tuple[Loss, ...]:
        """What a shard's file lost since then, the first one first."""
        rows = self._database.rows(f"SELECT {_LOSS} FROM losses WHERE shard = ? AND at >= ? ORDER BY n", (shard, since))  # noqa: S608  # own words
        return tuple(Loss(*row) for row in rows)

    def untold(self, entry: SessionEntry) -> Loss | None:
        """The worst loss that the person of a session does not know of."""
        row = self._database.row(_UNTOLD, (entry.shard, entry.told))
        if row is None and entry.refound:
            row = self._database.row(f"SELECT {_LOSS} FROM losses WHERE n = ?", (entry.refound,))  # noqa: S608  # own words
        return None if row is None else Loss(*row)

    def last(self) -> int:
        """The number of the latest loss; 0 before the first one."""
        ((number,),) = self._database.rows("SELECT coalesce(max(n), 0) FROM losses")
        return int(number)
