#!/usr/bin/env bash
# Closing a file that SQLite has open, by whatever other way in the same process, gives its locks up without a word.
#
# Software:  Python's sqlite3 (SQLite 3, its default "unix" file system layer), Linux
# Expected:  a connection that holds the write lock of a database keeps other processes out until it commits
# Seen:      it does until the same process opens and closes the database file once more, to read or only to look at it:
#            then another process gets the lock too, while the first is in its transaction. In WAL mode the locks are on
#            the -shm file, and opening and closing that one does the same
# Matters:   a backup, a check of the header or a checksum inside the process that serves a database lets a second writer
#            in; two writers at once can damage the file. POSIX gives up all of a process's locks on a file when any of its
#            descriptors of it is closed (fcntl(2)), and SQLite can guard only the descriptors that are its own
#            (sqlite.org, "How To Corrupt An SQLite Database File", 2.2). Read through another process, or with the
#            connection itself
#
# Exit code 0 while this is so, 1 when it has changed.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat >"$folder/look.py" <<'PYTHON'
import os, sqlite3, subprocess, sys
from pathlib import Path

TRY = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
try:
    other.execute("BEGIN IMMEDIATE")
    print("gets the lock too")
except sqlite3.OperationalError as error:
    print(error)
other.close()
"""


def another_process(path: Path) -> str:
    """What a second writer is answered."""
    command = [sys.executable, "-c", TRY, str(path)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def seen(path: Path, mode: str, looked_at: str) -> tuple[str, str]:
    """The answer to a second writer during a transaction, before and after a look at a file."""
    path.unlink(missing_ok=True)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute(f"PRAGMA journal_mode = {mode}")
    writer.execute("CREATE TABLE t (x)")
    writer.execute("BEGIN IMMEDIATE")
    before = another_process(path)
    with open(f"{path}{looked_at}", "rb") as file:
        os.fstat(file.fileno())  # not a byte is read
    after = another_process(path)
    writer.rollback()
    writer.close()
    print(f"  {mode:6}  before: {before}; after a look at the {looked_at or 'database'} file: {after}")
    return before, after


print("SQLite", sqlite3.sqlite_version)
root = Path(sys.argv[1])
found = [seen(root / "delete.db", "DELETE", ""), seen(root / "wal.db", "WAL", "-shm")]
sys.exit(0 if found == [("database is locked", "gets the lock too")] * 2 else 1)
PYTHON
python3 "$folder/look.py" "$folder"
