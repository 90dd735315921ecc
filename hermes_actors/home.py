"""The home of a gateway: where its configuration, state, sockets and logs are (DESIGN: home, mode 0700)."""

from __future__ import annotations

import os
import pwd
import secrets
from dataclasses import dataclass
from pathlib import Path

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


def default_home() -> Path:
    """``$HERMES_ACTORS_HOME``, else ``~/.hermes-actors``."""
    return Path(os.environ.get("HERMES_ACTORS_HOME") or "~/.hermes-actors").expanduser()


def user_name(uid: int) -> str:
    """The name of a user, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@dataclass(frozen=True, slots=True)
class Home:
    """The paths below a home; nothing is made by asking for them."""

    root: Path

    @property
    def config(self) -> Path:
        """``config.yaml``."""
        return self.root / "config.yaml"

    @property
    def env(self) -> Path:
        """``.env``: variables, secrets among them."""
        return self.root / ".env"

    @property
    def registry(self) -> Path:
        """The session registry and shard table, written by the supervisor alone."""
        return self.root / "state" / "registry.db"

    @property
    def facts(self) -> Path:
        """What is fixed for the home's life, beside the registry."""
        return self.root / "state" / "home.json"

    @property
    def ledger(self) -> Path:
        """The restart-failure ledger, written by the supervisor alone."""
        return self.root / "state" / "restart_failures.json"

    @property
    def shards(self) -> Path:
        """The directory of the shard files, each written by the worker that owns it."""
        return self.root / "state" / "shards"

    @property
    def run(self) -> Path:
        """The directory of what only a running gateway has: its lock and its sockets."""
        return self.root / "run"

    @property
    def lock(self) -> Path:
        """Held by the running supervisor."""
        return self.run / "supervisor.lock"

    @property
    def control(self) -> Path:
        """The control socket."""
        return self.run / "supervisor.sock"

    @property
    def logs(self) -> Path:
        """The directory of the log files."""
        return self.root / "logs"

    def peer(self, slot: int) -> Path:
        """The socket on which the worker of a slot hears the other workers."""
        return self.run / f"worker-{slot}.sock"

    @property
    def directories(self) -> tuple[Path, ...]:
        """The home and all directories in it, those above first."""
        return (self.root, self.root / "state", self.shards, self.run, self.logs)

    def owners(self) -> frozenset[int]:
        """The users (ids) whose configuration this user believes: itself and root; as root also the home's owner.

        That root checks the configuration of another user's home starts nothing.
        """
        owner = os.geteuid()
        if owner == 0 and self.root.exists():
            owner = self.root.stat().st_uid
        return frozenset({0, owner})

    def make(self) -> list[Path]:
        """Make the directories, private to their owner, and tighten those that are not.

        Below the home, what stands in the place of one and is none is moved beside it: it must not prevent a start.

        Returns:
            What was moved, under its new names.

        Raises:
            OSError: a directory cannot be made.
        """
        moved = []
        for path in self.directories:
            if path != self.root and os.path.lexists(path) and not path.is_dir():
                moved.append(path.rename(path.with_name(f"{path.name}.aside-{secrets.token_hex(4)}")))
            path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
            path.chmod(PRIVATE_DIRECTORY)
        return moved
