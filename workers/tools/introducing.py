"""Asks a server that was just connected what it offers besides tools. What it does not answer it does not offer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mcp import Client, MCPError
from mcp_types import Prompt as ListedPrompt
from pydantic import ValidationError

from workers.tools.content import clean
from workers.tools.introduction import MAX_PROMPTS, Introduction, Prompt, PromptArgument

PROMPTS_TIMEOUT_S = 5.0  # of all pages
MAX_PAGES = 20


async def introduction(client: Client) -> Introduction:
    """What the server behind a client says of itself."""
    can, who = client.server_capabilities, client.server_info
    return Introduction(
        protocol=client.protocol_version,
        version=f"{who.name} {who.version}" if who is not None else "",
        instructions=clean(client.instructions or ""),
        prompts=await _prompts(client) if can.prompts is not None else (),
        has_resources=can.resources is not None,
    )


async def _prompts(client: Client) -> tuple[Prompt, ...]:
    found: list[Prompt] = []
    cursors: set[str | None] = {None}
    cursor: str | None = None
    try:
        async with asyncio.timeout(PROMPTS_TIMEOUT_S):
            for _ in range(MAX_PAGES):
                page = await client.list_prompts(cursor=cursor)
                found += _read(page.prompts)
                cursor = page.next_cursor
                if cursor in cursors or len(found) >= MAX_PROMPTS:
                    break
                cursors.add(cursor)
    except (MCPError, ValidationError, TimeoutError):
        pass  # prompts are extras: what was listed so far is what there is
    return tuple(found[:MAX_PROMPTS])


def _read(listed: Iterable[ListedPrompt]) -> Iterable[Prompt]:
    for prompt in listed:
        arguments = (
            PromptArgument(
                name=argument.name, description=clean(argument.description or ""), required=bool(argument.required)
            )
            for argument in prompt.arguments or ()
        )
        yield Prompt(name=prompt.name, description=clean(prompt.description or ""), arguments=tuple(arguments))
