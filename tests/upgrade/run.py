"""An upgrade of a running gateway: the wheel of an earlier commit serves, this one's is installed over it, it restarts.

    python tests/upgrade/run.py [--before COMMIT] [--keep DIRECTORY]

People send messages all the time, each with its own Idempotency-Key, until they have its answer: some run while the
gateway drains, some wait, one is cut. Beside them are sessions with marks and strikes. Afterwards each message stands
in its transcript once, with one answer; sessions and strikes are as they were, and the process is the same. A second
home, which the earlier commit served and stopped, is started by this one. Exits 1 where anything of that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes.outside import free_port
from upgrade.wheels import ROOT, SAY, pip, wheel_of

BEFORE = "ca328ec"  # the commit before the rooms were made; it writes homes as 0.1.0 does
KEY = "key-of-an-upgrade-0123456789"
BOUND_S = 60.0  # of every wait
LOOK_S = 0.1
DRAIN_S = 4  # long enough for what runs to end, but for the one turn that is to be cut
PEOPLE = 3
TOO_LONG = "[[slow:90000]] too long for the drain"
RUNS_S = 1.0  # by then a turn runs; where it does not, the look at the strikes says so
TRIES = 4  # of a restart
MARKED = 3  # exit code: done, and sessions were cut

Row = dict[str, Any]


class Faults(list[str]):
    """What is not as it has to be."""

    def check(self, holds: bool, what: str) -> None:
        """Note and print one thing that was looked at."""
        SAY.print(f"{'ok  ' if holds else 'FAIL'} {what}")
        if not holds:
            self.append(what)


class Gateway:
    """A gateway on a home, of whatever is installed in an environment at that moment."""

    def __init__(self, environment: Path, home: Path, model_port: int) -> None:
        self._bin = environment / "bin"
        self.home = home
        self._environ = {**os.environ, "API_SERVER_KEY": KEY}
        self.url = ""
        home.mkdir(mode=0o700)
        config = {
            "model": {"provider": "custom", "default": "fake", "base_url": f"http://127.0.0.1:{model_port}/v1"},
            "agent": {"restart_drain_timeout": DRAIN_S},
            "api_server": {"port": free_port(), "key_env": "API_SERVER_KEY"},
            "supervisor": {"workers": 2, "heartbeat_seconds": 0.5},
        }
        (home / "config.yaml").write_text(json.dumps(config))
        self.url = f"http://127.0.0.1:{config['api_server']['port']}"  # type: ignore[index]  # a mapping
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        command = [str(self._bin / "hermes-supervisor"), "start", "--home", str(self.home)]
        with (self.home / "output.log").open("ab") as output:
            self._process = subprocess.Popen(command, env=self._environ, stdout=output, stderr=output, cwd=self.home)  # noqa: ASYNC220  # waits for nothing
        await self.until_serving()

    async def until_serving(self, but: str = "") -> Row:
        async with asyncio.timeout(BOUND_S):
            while True:
                code, status = await self.ctl("status")
                up = code == 0 and status["boot"] != but and status["phase"] == "serving"
                if up and all(worker["state"] == "ready" for worker in status["workers"]):
                    return dict(status)
                assert self._process is not None
                if self._process.poll() is not None:
                    raise RuntimeError(f"the gateway ended: {(self.home / 'output.log').read_text()[-3000:]}")
                await asyncio.sleep(LOOK_S)

    async def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, BOUND_S)

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    async def ctl(self, *arguments: str) -> tuple[int, Any]:
        command = [str(self._bin / "hermes-ctl"), *arguments, "--json", "--home", str(self.home)]
        done = await asyncio.create_subprocess_exec(
            *command, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        out, _ = await asyncio.wait_for(done.communicate(), BOUND_S)
        return done.returncode or 0, json.loads(out) if out.strip() else None

    async def sessions(self) -> dict[str, Row]:
        """What must survive, of each session."""
        _, listed = await self.ctl("sessions", "list")
        rows = {row["key"]: row for row in listed["sessions"]}
        return {key: {name: row.get(name) for name in ("session_id", "state")} for key, row in rows.items()}

    def ledger(self) -> dict[str, int]:
        file = self.home / "state/restart_failures.json"
        return {} if not file.exists() else {k: v["count"] for k, v in json.loads(file.read_text())["sessions"].items()}

    def newest_log(self) -> str:
        return (self.home / "output.log").read_text()


class Person:
    """Sends the messages of one session, each until its answer is here."""

    def __init__(self, gateway: Gateway, http: aiohttp.ClientSession, session: str) -> None:
        self._gateway = gateway
        self._http = http
        self.session = session
        self.sent: list[str] = []
        self.refused = 0  # times that one was to come back later

    async def say(self, text: str, *, wait: bool = True) -> str | None:
        """Send one message; its answer, or None where the turn was interrupted."""
        self.sent.append(text)
        key = f"{self.session}-{len(self.sent)}"
        while True:
            status, body = await self._post(text, key)
            if status == 200:
                return str(body["choices"][0]["message"]["content"])
            code = body.get("error", {}).get("code") if status else None
            if code == "turn_interrupted" and not wait:
                return None
            if status not in (0, 202, 502, 503):
                raise AssertionError(f"{self.session}: {status} {body}")
            self.refused += 1
            await asyncio.sleep(LOOK_S * 4)

    async def _post(self, text: str, key: str) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {KEY}", "X-Hermes-Session-Id": self.session, "Idempotency-Key": key}
        body = {"model": "x", "messages": [{"role": "user", "content": text}]}
        try:
            async with self._http.post(f"{self._gateway.url}/v1/chat/completions", json=body, headers=headers) as got:
                return got.status, await got.json()
        except (aiohttp.ClientError, OSError):
            return 0, {}

    async def transcript(self) -> list[Row]:
        headers = {"Authorization": f"Bearer {KEY}"}
        rows: list[Row] = []
        path = f"{self._gateway.url}/api/sessions/{self.session}/messages?limit=200"
        async with self._http.get(path, headers=headers) as got:
            rows += [row["message"] for row in (await got.json())["data"]]
        return rows

    async def check(self, faults: Faults) -> None:
        """Each message once and in order, each with one answer."""
        rows = await self.transcript()
        said = [row["content"] for row in rows if row["role"] == "user"]
        answers = sum(row["role"] == "assistant" for row in rows)
        whole = said == self.sent and answers == len(self.sent)
        faults.check(whole, f"{self.session}: {len(self.sent)} messages, {len(said)} kept, {answers} answers")

    async def keep_talking(self, over: asyncio.Event) -> None:
        """One message after the other; every third takes a second."""
        while not over.is_set():
            await self.say(f"message {len(self.sent)} {'[[slow:1000]]' if len(self.sent) % 3 == 2 else ''}")
            await asyncio.sleep(LOOK_S)


@contextlib.asynccontextmanager
async def model_server() -> AsyncIterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "scaling.model_server", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT / "tests")  # noqa: ASYNC220  # waits for nothing
    try:
        yield port
    finally:
        server.terminate()
        server.wait()


async def strike(gateway: Gateway, person: Person) -> None:
    """Leave a strike and a mark: kill the workers while a turn of this person runs."""
    turn = asyncio.create_task(person.say("[[slow:60000]] cut by a crash", wait=False))
    await asyncio.sleep(RUNS_S)
    _, status = await gateway.ctl("status")
    for worker in status["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    await turn
    await gateway.until_serving()


async def restart(gateway: Gateway) -> tuple[int, Any]:
    """``hermes-ctl restart``; again, where the machine is too busy to try the new code in time."""
    for _ in range(TRIES):
        code, told = await gateway.ctl("restart")
        if "gave no word" not in str(told):
            break
    return code, told


async def upgrade(gateway: Gateway, other: Gateway, python: Path, wheel: Path, faults: Faults) -> None:
    """All of it: what the earlier release leaves, the restart of one home, the cold start of the other."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        left = Person(other, http, "left")
        await other.start()
        await left.say("before")
        other_struck = Person(other, http, "struck")
        await other_struck.say("before")
        await strike(other, other_struck)
        again = asyncio.create_task(other_struck.say(TOO_LONG, wait=False))
        await asyncio.sleep(RUNS_S)
        faults.check(await other.stop() == 0, "the earlier release stopped in order")
        await again

        await gateway.start()
        struck, suspended, cut = (Person(gateway, http, name) for name in ("struck", "suspended", "cut"))
        for person in (struck, suspended, cut):
            await person.say("before")
        await strike(gateway, struck)
        await gateway.ctl("sessions", "suspend", "suspended", "--yes")
        before = await gateway.sessions()
        faults.check(list(gateway.ledger().values()) == [1], f"there is a strike: {gateway.ledger()}")
        _, status = await gateway.ctl("status")

        over = asyncio.Event()
        people = [Person(gateway, http, f"person-{number}") for number in range(PEOPLE)]
        talking = [asyncio.create_task(person.keep_talking(over)) for person in people]
        long = asyncio.gather(*(person.say(TOO_LONG, wait=False) for person in (cut, struck)))
        await asyncio.to_thread(pip, python, "install", "--force-reinstall", "--no-deps", str(wheel))  # people go on
        waiting = asyncio.create_task(_behind(gateway, http, cut.session))
        code, told = await restart(gateway)
        faults.check(code == MARKED, f"hermes-ctl of the new release restarted the old one: {told}")
        if code != MARKED:
            raise RuntimeError("it was not restarted")
        after = await gateway.until_serving(but=status["boot"])
        faults.check(after["pid"] == status["pid"], "the process is the same")
        faults.check("hermes_actors.supervisor." in gateway.newest_log(), "the code is the new one")
        faults.check(await long == [None, None], "the turns that were too long were cut")
        faults.check((await waiting) == 200, "the message that waited behind it ran")
        sent = [len(person.sent) for person in people]
        async with asyncio.timeout(BOUND_S):
            while not all(len(person.sent) > count + 3 for person, count in zip(people, sent, strict=True)):  # noqa: ASYNC110  # counts have no event
                await asyncio.sleep(LOOK_S)
        over.set()
        await asyncio.gather(*talking)
        for person in people:
            await person.check(faults)
        SAY.print(f"     {sum(person.refused for person in people)} times one had to come back")
        now = await gateway.sessions()
        same = {key: row for key, row in before.items() if not key.endswith(":cut")}
        faults.check({key: now.get(key) for key in same} == same, "sessions and marks are as they were")
        faults.check(
            list(gateway.ledger().values()) == [2], f"who was cut again has a second strike: {gateway.ledger()}"
        )
        faults.check(await gateway.stop() == 0, "the new release stopped in order")

        kept = other.ledger()
        await other.start()
        await left.say("after")
        await left.check(faults)
        faults.check(
            list(other.ledger().values()) == [2] and other.ledger() == kept,
            f"the home that was started cold has its strikes: {kept}",
        )
        faults.check(await other.stop() == 0, "the new release stopped that home in order")


async def _behind(gateway: Gateway, http: aiohttp.ClientSession, session: str) -> int:
    """A message that waits behind a running turn of its session, until it has run; the status of its answer."""
    person = Person(gateway, http, session)
    while True:
        status, _ = await person._post("waited behind it", f"{session}-behind")
        if status == 200 or status not in (0, 202, 502, 503):
            return status
        await asyncio.sleep(LOOK_S * 4)


async def play(directory: Path, before: str) -> Faults:
    """Build both wheels, install the earlier one, upgrade it; what was wrong."""
    faults = Faults()
    wheels = []
    for name, commit in (("before", before), ("after", None)):
        (directory / name).mkdir()
        wheels.append(wheel_of(commit, directory / name))
    environment = directory / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin/python"
    pip(python, "install", str(wheels[0]))
    async with model_server() as port:
        gateway, other = (Gateway(environment, directory / name, port) for name in ("home", "other"))
        try:
            await upgrade(gateway, other, python, wheels[1], faults)
        except Exception as error:  # noqa: BLE001  # whatever ends the run is a fault of what it looked at
            faults.check(False, f"the run came to its end: {error!r}")
        finally:
            gateway.kill()
            other.kill()
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=BEFORE, help="the commit that serves first (%(default)s)")
    parser.add_argument("--keep", type=Path, help="where homes, logs and wheels are left")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="upgrade-")) if arguments.keep is None else arguments.keep.resolve()
    directory.mkdir(exist_ok=True)
    faults = asyncio.run(play(directory, arguments.before))
    if arguments.keep is None and not faults:
        shutil.rmtree(directory)
    SAY.print(f"{len(faults)} faults" + (f"; see {directory}" if faults else ""))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
