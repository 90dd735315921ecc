"""Open WebUI as its page in the manual starts it, and a person at it, in a real browser without a screen."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fakes.model_server import ModelServer, Received
from fakes.outside import Unavailable, free_port, python_env, serving
from fakes.outside_run import Outcome, tried
from fakes.pages import ROOT, blocks
from fakes.running_gateway import KEY, RunningGateway
from real_clients.clients import node_program, version
from real_clients.meeting import Said, counted_gateway, run_program

HOWTO = ROOT / "docs" / "howto" / "clients" / "open-webui.md"
PACKAGES = ("open-webui==0.12.4", "torch==2.13.0+cpu")  # without libraries for GPUs
BROWSER = "playwright-core@1.65.1"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")  # as distributions call it
START_S = 300.0  # it makes its database
ADDRESS, PORT = "http://127.0.0.1:8642", "--port 3000"  # on the page
GONE_S = 10.0  # until the gateway has seen that the connection is gone
NAME, VERSIONS = "Open WebUI", f"{version(PACKAGES[0])}, in Chromium with {version(BROWSER)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Open WebUI, the gateway behind it, and a browser before it."""

    url: str
    browse: list[str]
    chromium: str
    work: Path
    pictures: Path
    gateway: RunningGateway
    model: ModelServer

    async def chat(self, *texts: str, picture: str, stop: str = "") -> Said:
        """Send these messages in one chat; the last answer as it is shown.

        Args:
            texts: each is sent when the one before is answered.
            picture: the name of a picture of the screen, taken at the end.
            stop: press the button when the answer says this.
        """
        asked = {
            "url": self.url, "chromium": self.chromium, "texts": texts, "stop": stop,
            "picture": str(self.pictures / f"{picture}.png"),
        }  # fmt: skip
        return await run_program(self.browse, asked, self.work)

    def asked(self, tag: str) -> list[Received]:
        """The requests to the model whose last message of the user begins with this: not those for titles and tags."""
        return [received for received in self.model.requests if _last_user(received).startswith(tag)]


def _last_user(received: Received) -> str:
    return str([message["content"] for message in received.body["messages"] if message["role"] == "user"][-1])


def _shown(desk: Desk, said: Said, wanted: str, tag: str, asked: int) -> Outcome:
    held = wanted in said.text and len(desk.asked(tag)) == asked
    seen = "" if held else f"{(said.error or said.text)[:160]!r}, the model was asked {len(desk.asked(tag))} times"
    return Outcome(held=held, seen=seen)


# -- at its defaults --------------------------------------------------------------------------------------------------
async def a_chat(desk: Desk) -> Outcome:
    said = await desk.chat("chat [[say:one two three]]", picture="chat")
    return _shown(desk, said, "one two three", "chat", 1)


async def a_tool(desk: Desk) -> Outcome:
    said = await desk.chat("tool [[tool:get_current_timestamp:{}]]", picture="tool")
    return _shown(desk, said, 'tools said: {"current_timestamp"', "tool", 2)


async def a_refusal(desk: Desk) -> Outcome:
    said = await desk.chat("refused [[http:400]]", picture="refused")
    return _shown(desk, said, "HTTP 400", "refused", 1)


async def the_button(desk: Desk) -> Outcome:
    said = await desk.chat("button [[stall]]", picture="stopped", stop="so far")
    async with asyncio.timeout(GONE_S):  # the request for a title, which has the message too, goes on
        await desk.model.until(lambda: desk.model.aborted > 0)
    return _shown(desk, said, "so far", "button", 1)


# -- with the settings of the page ------------------------------------------------------------------------------------
async def a_session(desk: Desk) -> Outcome:
    said = await desk.chat("session [[say:first]]", "session [[say:second]]", picture="session")
    _, listed, _ = await desk.gateway.request("GET", "/api/sessions")
    if len(listed["data"]) != 1:
        return Outcome(held=False, seen=f"{len(listed['data'])} sessions")
    _, page, _ = await desk.gateway.request("GET", f"/api/sessions/{listed['data'][0]['id']}/messages")
    roles = [row["message"]["role"] for row in page["data"]]
    if roles != ["user", "assistant"] * 2:
        return Outcome(held=False, seen=f"the transcript has {roles}")
    besides = [received.body for received in desk.model.requests if _last_user(received).startswith("### Task")]
    if not besides or any("mcp__time__" in json.dumps(body.get("tools")) for body in besides):
        return Outcome(held=False, seen=f"{len(besides)} requests for titles and tags, some to the agent")
    return _shown(desk, said, "second", "session", 2)


Situation = Callable[[Desk], Awaitable[Outcome]]
AT_DEFAULTS: dict[str, Situation] = {
    "a chat": a_chat,
    "a tool of Open WebUI": a_tool,
    "the model refuses it": a_refusal,
    "the button that stops": the_button,
}
WITH_SETTINGS: dict[str, Situation] = {"each chat a session": a_session}
TITLES = (*AT_DEFAULTS, *WITH_SETTINGS)


@asynccontextmanager
async def started(folder: Path, work: Path, block: str) -> AsyncIterator[Desk]:
    """Open WebUI as a block of its page starts it, in front of a gateway.

    Raises:
        Unavailable: something of it is not to be had.
    """
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        raise Unavailable("no Chromium is installed")
    python = await asyncio.to_thread(python_env, folder / "open-webui", *PACKAGES)
    browse = await asyncio.to_thread(node_program, folder, folder / "browser", "open_webui.mjs", BROWSER)
    pictures = folder / "open-webui-pictures"
    pictures.mkdir(exist_ok=True)
    async with counted_gateway(work / "home") as (gateway, model):
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        environ = {
            "PATH": f"{python.parent}:{os.environ['PATH']}", "HOME": str(work), "DATA_DIR": str(work / "data"),
            "API_SERVER_KEY": KEY, "WEBUI_AUTH": "False", "OFFLINE_MODE": "True", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        (work / "data").mkdir()
        command = block.replace(ADDRESS, gateway.url).replace(PORT, f"--host 127.0.0.1 --port {port}")
        with serving(["bash", "-c", f"cd {work}/data\n{command}"], work / "log", f"{url}/health", START_S, environ):
            yield Desk(
                url=url, browse=browse, chromium=chromium, work=work, pictures=pictures, gateway=gateway, model=model
            )


async def meet(folder: Path, work: Path, told: Callable[[str, Outcome], None]) -> dict[str, Outcome]:
    """All situations, by title.

    Raises:
        Unavailable: something of it is not to be had.
    """
    outcomes = {}
    for number, (block, situations) in enumerate(zip(blocks(HOWTO, "sh"), (AT_DEFAULTS, WITH_SETTINGS), strict=True)):
        (work / str(number)).mkdir()
        async with started(folder, work / str(number), block) as desk:
            for title, situation in situations.items():
                outcomes[title] = await tried(situation(desk))
                told(title, outcomes[title])
    return outcomes
