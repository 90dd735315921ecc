"""Records without a disk: the rows that decisions look up, changed by what decisions have written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from fakes.operations import made

from hermes_actors.core import effects as fx
from hermes_actors.core.sessions.lives import Incident, Life
from hermes_actors.core.state import SessionEntry
from hermes_actors.operations.results import Loss, StoredFacts
from hermes_actors.wire.sharding import shard_of


class FakeRecords:
    """Every key has a session, unless ``made_only``: then only those that were written."""

    def __init__(self, shards: int, *, made_only: bool = False) -> None:
        self.shards = shards
        self.made_only = made_only
        self.sessions: dict[str, SessionEntry] = {}
        self.forgotten: set[str] = set()
        self.history: list[Incident] = []
        self.present = Life("boot", 0.0)
        self.earlier: tuple[Life, ...] = ()
        self.losses: dict[str, Loss] = {}  # by session key: what its person is to be told
        self.tokens = 0

    # -- Rows ----------------------------------------------------------------------------------------------------
    def session(self, key: str) -> SessionEntry | None:
        known = self.sessions.get(key)
        if known is not None or self.made_only or key in self.forgotten:
            return known
        return SessionEntry(
            key=key,
            session_id=f"ses_{key}",
            principal="a",
            shard=shard_of(key, self.shards),
            created_at=1.0,
            last_active_at=2.0,
        )

    def untold(self, entry: SessionEntry) -> Loss | None:
        return self.losses.get(entry.key)

    def last_loss(self) -> int:
        return len(self.losses)

    def page(self, principal: str | None, after: str | None, limit: int) -> tuple[list[SessionEntry], str | None]:
        wanted = [entry for entry in self.sessions.values() if principal in (None, entry.principal)]
        return wanted[:limit], after

    def latest_of(self, key: str) -> str | None:
        return next((incident.what for incident in reversed(self.history) if incident.key == key), None)

    def lives(self) -> tuple[Life, ...]:
        return (self.present, *self.earlier)

    def token(self) -> str:
        self.tokens += 1
        return f"{self.tokens:020x}"

    def stored(self) -> StoredFacts:
        facts: StoredFacts = made(StoredFacts, {})
        return facts

    # -- what is written -----------------------------------------------------------------------------------------
    def write(self, effects: Iterable[fx.Effect]) -> None:
        for effect in effects:
            match effect:
                case fx.WriteSession(key=key, entry=None):
                    self.sessions.pop(key, None)
                    self.forgotten.add(key)
                case fx.WriteSession(key=key, entry=entry):
                    assert entry is not None
                    self.sessions[key] = entry
                    self.forgotten.discard(key)
                    if entry.told:
                        self.losses.pop(key, None)
                case fx.WriteIncident(incident=incident):
                    self.history.append(incident)
                case fx.NoteLife(milestone=milestone, at=at):
                    self.present = self.present._replace(**{milestone: at})  # type: ignore[arg-type]  # a time, all of them
                case fx.WriteOwners() | fx.TouchSessions() | fx.ProveWritable() | fx.Compare():
                    pass
                case _:
                    assert not isinstance(effect, fx.Write)

    def add(self, entry: SessionEntry, **changes: object) -> SessionEntry:
        """A session that was there before."""
        self.sessions[entry.key] = replace(entry, **changes)  # type: ignore[arg-type]  # its fields
        return self.sessions[entry.key]
