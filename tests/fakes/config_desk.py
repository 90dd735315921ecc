"""Where an operator writes a configuration and tries it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hermes_actors.config.load import ConfigError, load
from hermes_actors.config.model import Settings
from hermes_actors.config.problems import Problem
from hermes_actors.home import Home

KEYS = {"OPENAI_API_KEY": "sk-test-0123", "API_SERVER_KEY": "caller-key-0123"}


@dataclass(frozen=True)
class Desk:
    home: Home

    @classmethod
    def at(cls, root: Path) -> Desk:
        root.mkdir(mode=0o700)
        return cls(Home(root))

    def write(self, text: str | bytes) -> None:
        raw = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
        self.home.config.write_bytes(raw)

    def write_env(self, text: str, mode: int = 0o600) -> None:
        self.home.env.write_text(textwrap.dedent(text))
        self.home.env.chmod(mode)

    def load(self, environ: Mapping[str, str] = KEYS, *, config: Path | None = None, demo: bool = False) -> Settings:
        return load(self.home, config_path=config, environ=environ, demo=demo)

    def accepted(self, text: str, environ: Mapping[str, str] = KEYS, *, demo: bool = False) -> Settings:
        self.write(text)
        return self.load(environ, demo=demo)

    def problems(
        self, text: str | bytes, environ: Mapping[str, str] = KEYS, *, demo: bool = False
    ) -> tuple[Problem, ...]:
        self.write(text)
        with pytest.raises(ConfigError) as caught:
            self.load(environ, demo=demo)
        return caught.value.problems

    def problem(self, text: str | bytes, environ: Mapping[str, str] = KEYS) -> Problem:
        (only,) = self.problems(text, environ)
        return only
