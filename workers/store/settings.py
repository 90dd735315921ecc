"""What a shard keeps of a session beside its turns, in SQL: each operation runs inside another's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence


class SettingRows:
    """The operations on one shard's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def chosen_model(self, key: str) -> str | None:
        """The model a session asked for."""
        row: tuple[str] | None = self._execute("SELECT model FROM chosen_models WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def choose_model(self, key: str, model: str | None) -> None:
        """Note or forget a session's model."""
        if model is None:
            self._execute("DELETE FROM chosen_models WHERE key = ?", (key,))
        else:
            self._execute("INSERT OR REPLACE INTO chosen_models (key, model) VALUES (?, ?)", (key, model))

    def titles(self, keys: Sequence[str]) -> dict[str, str]:
        """The titles of sessions that have one, by session key."""
        read = (self._execute("SELECT key, title FROM titles WHERE key = ?", (key,)).fetchone() for key in keys)
        return dict(row for row in read if row is not None)

    def entitle(self, key: str, title: str | None) -> None:
        """Note or forget a session's title."""
        if title is None:
            self._execute("DELETE FROM titles WHERE key = ?", (key,))
        else:
            self._execute("INSERT OR REPLACE INTO titles (key, title) VALUES (?, ?)", (key, title))

    def drop(self, key: str) -> None:
        """Forget all of a session."""
        self.choose_model(key, None)
        self.entitle(key, None)
