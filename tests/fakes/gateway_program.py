"""Runs a gateway with fake workers: ``gateway_program.py HOME CONFIGURATION`` (JSON).

On a reload it reads the home's ``config.yaml`` and ``.env``, with one variable of the environment.

Prints a line of JSON when it is ready. Exits 1 with the error's words when it cannot start or fails.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hermes_actors import logs, service
from hermes_actors.config.load import load
from hermes_actors.config.model import Config, Settings
from hermes_actors.home import Home

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
    config = Config.model_validate_json(configuration)
    settings = Settings(config=config, environment=ENVIRONMENT, api_keys={"default": "of-default"})
    at = Home(Path(home))
    logs.configure(process="supervisor", directory=at.logs)
    read = partial(load, at, config_path=None, environ=ENVIRONMENT, demo=False)
    try:
        return service.serve(settings, at, ready=ready, reload=read, entry="fakes.fake_worker:main")
    except EXPECTED as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
