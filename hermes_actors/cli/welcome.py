"""What a person who starts a gateway wants to know: what it is, and how to talk to it. No secret is in it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from importlib.metadata import version

from rich.console import Group, RenderableType
from rich.text import Text

from hermes_actors.cli.render import facts, url
from hermes_actors.config.load import summary
from hermes_actors.config.model import Settings
from hermes_actors.home import Home, default_home
from hermes_actors.supervisor.service import Serving

_LEFT_OUT = ("API", "supervisor")  # of the configuration's summary: said otherwise, or nothing to do with


def welcome(settings: Settings, home: Home, serving: Serving, environ: Mapping[str, str]) -> RenderableType:
    """What is said at a terminal once the workers serve; print it with ``soft_wrap``, for commands are copied."""
    workers = f"{serving.workers} worker{'s' if serving.workers > 1 else ''}"
    address = url(serving.host, serving.port)
    variable = next(iter(settings.config.api_server.key_variables.values()))
    rows = [
        ("home", str(home.root)),
        *((name, value) for name, value in summary(settings) if name not in _LEFT_OUT),
        ("address", address),
    ]
    title = Text(f"hermes-actors {version('hermes-actors')} is ready: {workers}, pid {serving.pid}", style="bold green")
    talk = f"\nTalk to it:\n\n{_chat(home)}\n\n{_curl(address, variable, home, environ)}\n\nCtrl-C stops it.\n"
    return Group(Text(), title, facts(rows), Text(talk))


def _chat(home: Home) -> str:
    return "hermes-ctl chat" + ("" if home.root == default_home() else f" --home {shlex.quote(str(home.root))}")


def _curl(address: str, variable: str, home: Home, environ: Mapping[str, str]) -> str:
    """A message by hand; the shell that runs it looks the key up."""
    key = f"${variable}" if environ.get(variable) else f"$(. {shlex.quote(str(home.env))} && echo ${variable})"
    return (
        f"curl {address}/v1/chat/completions \\\n"
        f'  -H "Authorization: Bearer {key}" -H "X-Hermes-Session-Id: first" \\\n'
        """  -H "Content-Type: application/json" -d '{"messages": [{"role": "user", "content": "Hello"}]}'"""
    )
