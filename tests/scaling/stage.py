"""The stage: the model server, the floor and the gateway as real processes, and phases of load against them."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import yaml
from scaling.figures import Spread, percentile
from scaling.load import Outcome, Plan
from scaling.processes import ProcessFailed, child, free_port, last_words, listens

START_S = 20.0  # for anything to be ready
HTTP_S = 2.0  # for an answer of /readyz
CTL_S = 10.0  # for an answer of hermes-ctl
SETTLE_S = 2.0  # after a start or a burst, before memory or idleness is looked at
KEY_VARIABLE = "API_SERVER_KEY"
KEY = "key-of-the-benchmark"
INSTRUMENTS = Path(__file__).resolve().parents[1]  # what `scaling` is imported from


class PhaseFailed(Exception):
    """A phase of load came to no figures; the reason is in the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long everything is measured."""

    rounds: int = 5  # of a comparison: A B A B ...
    seconds: float = 4.0  # of a phase
    warm_up_s: float = 1.0
    idle_s: float = 20.0
    resident: int = 10_000  # sessions
    flapping: int = 50  # sessions whose tool servers flap
    flapping_s: float = 20.0  # of a phase of theirs
    lives: int = 4  # of a gateway whose workers are killed, or whose turns are cut
    running: int = 1_000  # turns that are cut together
    registered: int = 100_000  # sessions of a home that starts


QUICK = Effort(
    rounds=2,
    seconds=0.8,
    warm_up_s=0.2,
    idle_s=2.0,
    resident=1_000,
    flapping=12,
    flapping_s=3.0,
    lives=1,
    running=100,
    registered=5_000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that answers chat completions."""

    name: str
    url: str
    roots: tuple[int, ...]  # of its process trees
    token: str | None = None
    stateful: bool = False
    home: Path | None = None  # of a gateway
    tool_servers: str = ""  # in the command lines of its MCP servers: their CPU is told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase that ran, as kept in the results."""

    measurement: str
    target: str
    plan: Plan
    outcome: Outcome
    beside: str = ""  # what went on meanwhile

    @property
    def turns_per_s(self) -> float:
        """Turns that ended, per second."""
        return self.outcome.turns / self.outcome.seconds

    def cpu_ms(self, of: str) -> float:
        """CPU of one of the watched, per turn."""
        return 1000 * self.outcome.cpu_s[of] / max(1, self.outcome.turns)

    def latency_ms(self, share: float) -> float:
        """A percentile of the latencies."""
        return percentile(self.outcome.latencies_ms, share)

    def first_token_ms(self, share: float) -> float:
        """A percentile of the times to the first token."""
        return percentile(self.outcome.first_token_ms, share)


WORKERS = 2
IN_FLIGHT = 64
SERVED, MODEL = "served", "model server"  # whose CPU a phase accounts, besides that of `scaling.load`


def spread(phases: list[Phase], read: Callable[[Phase], float]) -> Spread:
    """One number of each phase."""
    return Spread(tuple(read(phase) for phase in phases))


@dataclass
class Stage:
    """Everything that measurements use; :func:`open_stage` makes one."""

    scratch: Path
    effort: Effort
    model: Target
    say: Callable[[str], None]  # what is happening, for people
    measurement: str = ""  # the one that runs
    phases: list[Phase] = field(default_factory=list)
    _started: int = 0

    @contextlib.contextmanager
    def floor(self, processes: int) -> Iterator[Target]:
        """The floor, one process a core on one port."""
        self.say(f"starting the floor with {processes} processes")
        place, port = self.place("floor"), free_port()
        with contextlib.ExitStack() as stack:
            roots = []
            for number in range(processes):
                command = _module("scaling.floor", "--port", port, "--model-url", self.model.url)
                command += ["--database", str(place / f"turns-{number}.db")]
                ready = listens(port, sockets=number + 1)
                roots.append(stack.enter_context(self._child(command, place / f"floor-{number}.log", ready)))
            yield Target(name="floor", url=_completions(port), roots=tuple(roots))

    @contextlib.contextmanager
    def gateway(
        self,
        *,
        workers: int,
        sections: Mapping[str, Any] | None = None,
        tool_servers: str = "",
        fill: Callable[[Path], None] = lambda _: None,
    ) -> Iterator[Target]:
        """A gateway in a new home.

        Args:
            workers: how many.
            sections: of its configuration, instead of the usual ones.
            tool_servers: as in :class:`Target`.
            fill: makes what the home has in it before the start.
        """
        self.say(f"starting a gateway with {workers} workers")
        home, port = self.place("home"), free_port()
        fill(home)
        config: dict[str, Any] = {
            "model": {
                "provider": "custom",
                "default": "ok",
                "base_url": self.model.url.removesuffix("/chat/completions"),
            },
            "api_server": {"host": "127.0.0.1", "port": port, "key_env": KEY_VARIABLE},
            "admin": {"host": "127.0.0.1", "port": free_port()},
            "supervisor": {"workers": workers},
        }
        (home / "config.yaml").write_text(yaml.safe_dump(config | dict(sections or {})))
        command = [_script("hermes-supervisor"), "start", "--home", str(home), "--config", str(home / "config.yaml")]
        log = home / "output.log"
        with self._child(command, log, _answers_ready(port), {KEY_VARIABLE: KEY}) as root:
            try:
                url = _completions(port)
                yield Target(
                    name="gateway",
                    url=url,
                    roots=(root,),
                    token=KEY,
                    stateful=True,
                    home=home,
                    tool_servers=tool_servers,
                )
            except PhaseFailed as error:
                raise PhaseFailed(f"{error}\nThe gateway's last words:\n{last_words(log)}") from error

    def drive(self, target: Target, plan: Plan, beside: str = "") -> Phase:
        """Run one phase of load against a target; ``beside`` says what else goes on.

        Raises:
            PhaseFailed: an answer was not as expected, or turns hung.
        """
        self.say(f"{target.name}: {plan.concurrency} at a time, {plan.message!r}")
        plan = replace(plan, url=target.url, token=target.token, stateful=target.stateful)
        plan = replace(plan, watch={SERVED: list(target.roots), MODEL: list(self.model.roots)})
        plan = replace(plan, tool_servers=target.tool_servers)
        outcome = Outcome(
            **self.instrument("scaling.load", asdict(plan), plan.warm_up_s + plan.seconds + 2 * plan.turn_s)
        )
        phase = Phase(measurement=self.measurement, target=target.name, plan=plan, outcome=outcome, beside=beside)
        if not outcome.turns:
            raise PhaseFailed(f"{target.name}: no turn ended in {outcome.seconds:.1f} s")
        self.phases.append(phase)
        return phase

    def rounds(self, targets: Mapping[str, tuple[Target, Plan]]) -> dict[str, list[Phase]]:
        """Drive the targets in turn, again and again: A B A B."""
        phases: dict[str, list[Phase]] = {name: [] for name in targets}
        for _ in range(self.effort.rounds):
            for name, (target, plan) in targets.items():
                phases[name].append(self.drive(target, plan))
        return phases

    def plan(self, **given: Any) -> Plan:
        """A plan of this stage's effort; the target fills in the rest."""
        phase: dict[str, Any] = {"url": "", "seconds": self.effort.seconds, "warm_up_s": self.effort.warm_up_s}
        return Plan(**(phase | given))

    def instrument(self, module: str, plan: Mapping[str, Any], bound_s: float) -> dict[str, Any]:
        """Run a module of ours on a plan.

        Raises:
            PhaseFailed: with what it said.
        """
        try:
            done = subprocess.run(
                _module(module),
                input=orjson.dumps(plan),
                capture_output=True,
                timeout=bound_s,
                check=True,
                env=_environment(),
            )
        except subprocess.CalledProcessError as error:
            raise PhaseFailed(error.stderr.decode(errors="replace").strip()) from error
        except subprocess.TimeoutExpired as error:
            raise PhaseFailed(f"{module} did not end in {bound_s:.0f} s") from error
        outcome: dict[str, Any] = orjson.loads(done.stdout)
        return outcome

    def ctl(self, gateway: Target, *command: str) -> dict[str, Any]:
        """What a command of ``hermes-ctl`` says of a gateway.

        Raises:
            PhaseFailed: it says nothing.
        """
        words = [_script("hermes-ctl"), *command, "--home", str(gateway.home), "--json"]
        done = subprocess.run(words, capture_output=True, timeout=CTL_S, env=_environment())
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise PhaseFailed(f"hermes-ctl {' '.join(command)}: exit code {done.returncode}: {said}")
        told: dict[str, Any] = orjson.loads(done.stdout)
        return told

    def model_requests(self) -> Counter[str]:
        """How many completions the model server was asked for so far, by model."""
        with urllib.request.urlopen(self.model.url.replace("/v1/chat/completions", "/stats"), timeout=HTTP_S) as answer:
            return Counter(orjson.loads(answer.read()))

    def settle(self) -> None:
        """Let what follows a start or a burst of work pass by."""
        time.sleep(SETTLE_S)

    def place(self, name: str) -> Path:
        """A new directory."""
        self._started += 1
        place = self.scratch / f"{self._started:02}-{name}"
        place.mkdir(mode=0o700)
        return place

    # -- inside -----------------------------------------------------------------------------------------------------
    def _child(
        self, command: list[str], log: Path, ready: Callable[[], bool], env: Mapping[str, str] | None = None
    ) -> contextlib.AbstractContextManager[int]:
        environment = _environment() | {"PYTHONUNBUFFERED": "1"} | dict(env or {})
        return child(command, log=log, ready=ready, ready_s=START_S, env=environment, cwd=log.parent)


@contextlib.contextmanager
def open_stage(scratch: Path, effort: Effort, say: Callable[[str], None]) -> Iterator[Stage]:
    """A stage with its model server running; all that was started on it is gone after the block."""
    port = free_port()
    command = _module("scaling.model_server", "--port", port)
    log = scratch / "model-server.log"
    with child(command, log=log, ready=listens(port), ready_s=START_S, env=_environment(), cwd=scratch) as root:
        yield Stage(scratch, effort, Target(name="direct", url=_completions(port), roots=(root,)), say)


def _completions(port: int) -> str:
    return f"http://127.0.0.1:{port}/v1/chat/completions"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return kept | {"PYTHONPATH": str(INSTRUMENTS)}


def _module(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", name, *map(str, arguments)]


def _script(name: str) -> str:
    """A command of the project, of this interpreter's environment first."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ProcessFailed(f"{name} is not installed: pip install -e '.[bench]' in this environment")
    return found


def _answers_ready(port: int) -> Callable[[], bool]:
    """Whether GET /readyz answers 200."""

    def ask() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HTTP_S)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return ask
