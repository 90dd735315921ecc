"""A gateway whose turns are run by pydantic-ai agents: ``pydantic_gateway.py --home HOME``, until it is stopped.

It is the product but for the runtime that its workers are given.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hermes_actors import logs
from hermes_actors.config.load import load
from hermes_actors.home import Home
from hermes_actors.supervisor.service import serve


def gateway(home: Home) -> None:
    """Serve until a signal ends it."""
    read = partial(load, home, config_path=None, environ=dict(os.environ), demo=False)
    logs.configure(process="supervisor", directory=home.logs)
    serve(read(), home, reload=read, entry="fakes.pydantic_worker:main")


if __name__ == "__main__":
    gateway(Home(Path(sys.argv[2])))
