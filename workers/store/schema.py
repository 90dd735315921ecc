"""The tables of a shard's file, and the way to them from the tables of every earlier release.

A released migration is never edited.
"""

from __future__ import annotations

from typing import TypeAlias

Migration: TypeAlias = tuple[str, ...]  # statements

_FIRST: Migration = (
    """
    CREATE TABLE owner (  -- one row: whose file this is
        shard INTEGER PRIMARY KEY,
        fence INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE turns (
        n INTEGER PRIMARY KEY,           -- the order of admission
        turn_id TEXT NOT NULL UNIQUE,
        key TEXT NOT NULL,               -- session key
        session_id TEXT NOT NULL,
        state TEXT NOT NULL,
        stateless INTEGER NOT NULL,
        principal TEXT NOT NULL,
        idempotency_key TEXT,            -- NULL when it is too old to be honoured
        fingerprint BLOB NOT NULL,
        parameters BLOB NOT NULL,        -- msgpack map
        origin BLOB NOT NULL,            -- msgpack map
        created_at REAL NOT NULL,        -- seconds since the epoch, like all times here
        started_at REAL,
        ended_at REAL,
        ended BLOB,                      -- msgpack map of workers.turns.Ended, without what stands in columns
        own_fault INTEGER NOT NULL DEFAULT 0,
        submitted INTEGER NOT NULL,      -- how many messages came with it: its first rows
        written INTEGER NOT NULL,        -- how many rows it has in all
        in_transcript INTEGER NOT NULL DEFAULT 0,  -- whether its rows are part of its session's transcript
        CHECK ((ended_at IS NULL) = (state IN ('queued', 'running')))
    ) STRICT
    """,
    # Rows are found by number alone: the turn's n times 2^20 plus the place in the turn. New rows so go to the end of
    # the table, and a turn's rows lie together.
    "CREATE TABLE messages (seq INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT",
    "CREATE INDEX turns_of_key ON turns (key)",
    "CREATE INDEX turns_of_session ON turns (session_id) WHERE in_transcript",
    "CREATE INDEX turns_unfinished ON turns (ended_at) WHERE ended_at IS NULL",
    "CREATE INDEX turns_that_age ON turns (created_at) WHERE stateless OR idempotency_key IS NOT NULL",
    """
    CREATE UNIQUE INDEX turns_by_idempotency_key ON turns (key, idempotency_key)
        WHERE idempotency_key IS NOT NULL
    """,
)

_CHOSEN_MODELS: Migration = (
    """
    CREATE TABLE chosen_models (  -- by /model, in sessions that asked for another than the configured one
        key TEXT PRIMARY KEY,     -- session key
        model TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

_SUMMARIES: Migration = (
    """
    CREATE TABLE summaries (        -- what the model is sent instead of the oldest turns of a transcript
        session_id TEXT PRIMARY KEY,
        through INTEGER NOT NULL,   -- the n of the last turn that it covers
        turns INTEGER NOT NULL,     -- how many it covers
        text TEXT NOT NULL,
        made_at REAL NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

_EVIDENCE: Migration = (
    "ALTER TABLE owner ADD COLUMN highest INTEGER NOT NULL DEFAULT 0",  # the n of a turn that it had, or has
    "ALTER TABLE owner ADD COLUMN proofs INTEGER NOT NULL DEFAULT 0",  # of being writable; never read
    "ALTER TABLE owner ADD COLUMN found BLOB",  # msgpack map: what was wrong with the file, until the supervisor knows
)

_RESPONSES: Migration = (
    """
    CREATE TABLE responses (    -- turns that are kept as responses of the Open Responses API
        n INTEGER PRIMARY KEY,  -- the turn's
        asked BLOB NOT NULL,    -- msgpack map: the fields of a response object that say what was asked
        created_at REAL NOT NULL
    ) STRICT
    """,
    "CREATE INDEX responses_that_age ON responses (created_at)",
    # A stateless turn that is kept as a response has 2 in `stateless`, and does not age as the others do.
    "DROP INDEX turns_that_age",
    "CREATE INDEX turns_that_age ON turns (created_at) WHERE stateless = 1 OR idempotency_key IS NOT NULL",
)

_TITLES: Migration = (
    """
    CREATE TABLE titles (  -- that callers gave their sessions
        key TEXT PRIMARY KEY,
        title TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)

MIGRATIONS: tuple[Migration, ...] = (_FIRST, _CHOSEN_MODELS, _SUMMARIES, _EVIDENCE, _RESPONSES, _TITLES)
