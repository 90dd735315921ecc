"""The page of a client in the manual: its programs as they stand there, for the demo model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from fakes.outside_run import Outcome
from fakes.pages import ROOT, blocks
from fakes.running_gateway import KEY, RunningGateway
from real_clients.clients import Client

PAGES = ROOT / "docs" / "howto" / "clients"
ADDRESS = "http://127.0.0.1:8642"  # of the pages
BOUND_S = 90.0  # of a program


def programs(client: Client, run: Sequence[str]) -> list[tuple[str, ...]]:
    """The commands that run the programs of its page.

    Args:
        client: has a page.
        run: its interpreter, and a program that is not meant here.
    """
    page, interpreter = PAGES / client.page, run[0]
    if client.kind == "npm":
        package = client.packages[0].rpartition("@")[0]
        return [
            (interpreter, "--input-type=module", "-e", text) for text in blocks(page, "js") if f'"{package}"' in text
        ]
    if scripts := blocks(page, "python"):
        return [(interpreter, "-c", "\n".join(scripts))]  # one process: most of its time goes into imports
    return [("bash", "-euc", text) for text in blocks(page, "sh")]


async def printed(command: Sequence[str], gateway: RunningGateway, folder: Path, environ: Mapping[str, str]) -> str:
    """What a program of a page prints, with the gateway's own address in place of the page's."""
    process = await asyncio.create_subprocess_exec(
        *(word.replace(ADDRESS, gateway.url) for word in command), cwd=folder,
        env={**environ, "API_SERVER_KEY": KEY, "PYTHONWARNINGS": "ignore"},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), BOUND_S)
    return out.decode().strip()


async def followed(
    client: Client, run: Sequence[str], gateway: RunningGateway, folder: Path, environ: Mapping[str, str]
) -> Outcome:
    """Whether the programs of the page print what they should."""
    said = "\n".join([await printed(command, gateway, folder, environ) for command in programs(client, run)])
    held = said == "\n".join(client.says)
    return Outcome(held=held, seen="" if held else said[-160:])
