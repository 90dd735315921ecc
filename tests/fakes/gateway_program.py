"""Runs a gateway with fake workers: ``gateway_program.py HOME CONFIGURATION`` (JSON).

Prints a line of JSON when it is ready. Exits 1 with the error's words when it cannot start or fails.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hermes_actors import service
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


def main(home: str, configuration: str) -> int:
    config = Config.model_validate_json(configuration)
    settings = Settings(config=config, environment={"A_KEY": "secret"}, api_keys={"default": "secret"})
    try:
        return service.serve(settings, Home(Path(home)), ready=ready, entry="fakes.fake_worker:main")
    except EXPECTED as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
