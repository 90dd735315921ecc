"""Runs a gateway with fake workers: ``gateway_program.py HOME CONFIGURATION`` (JSON).

On a reload, and after a restart in place, it reads the home's ``config.yaml`` and ``.env``, with one variable of the
environment.

Prints a line of JSON when it is ready. Exits 1 with the error's words when it cannot start or fails, 78 when that is
for its configuration, 9 when another signal could still make a failure of its end.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hermes_actors import logs
from hermes_actors.config.load import load
from hermes_actors.config.model import Config, Settings
from hermes_actors.config.problems import ConfigError
from hermes_actors.home import Home
from hermes_actors.restart import dry_run as rehearsal
from hermes_actors.restart.handover import SIGNALS, CommandLine, take
from hermes_actors.supervisor import service

ENTRY = "fakes.fake_worker:main"
EXPECTED = (
    service.HomeBusy,
    service.HomeUnusable,
    service.ListenFailed,
    service.RegistryUnusable,
    service.ShardsFixed,
    service.SupervisorFailed,
    service.TooManyWorkers,
)


def ready(serving: service.Serving) -> None:
    sys.stdout.write(json.dumps(dataclasses.asdict(serving)) + "\n")
    sys.stdout.flush()


ENVIRONMENT = {"API_SERVER_KEY": "of-default"}


def main(home: str, configuration: str) -> int:
    inherited, rehearsed = take(), rehearsal.asked_for()
    command = CommandLine.of_this_process()
    at = Home(Path(home))
    read = partial(load, at, config_path=None, environ=ENVIRONMENT, demo=False)
    try:
        if rehearsed is not None:
            rehearsal.check(read(), rehearsed, ENTRY)
            return 0
        logs.configure(process="supervisor", directory=at.logs)
        config = Config.model_validate_json(configuration)
        given = Settings(config=config, environment=ENVIRONMENT, api_keys={"default": "of-default"})
        settings = given if inherited is None else read()
        handover = service.serve(
            settings, at, ready=ready, reload=read, command=command, inherited=inherited, entry=ENTRY
        )
    except EXPECTED as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 78
    if handover is not None:
        handover.exec(command)
    return 0 if set(SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ()) else 9


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
