"""A server's tool listing, and what tells that it has changed, in both eras of the protocol."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import anyio
from mcp import Client, MCPError
from mcp.client.subscriptions import SubscriptionLost
from mcp_types import METHOD_NOT_FOUND
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from workers.tools import pages
from workers.tools.catalogue import LeftOut, ListedTool, Listing
from workers.tools.outage import pause_s
from workers.tools.outcomes import ANSWERED, OWN_CODES
from workers.tools.pages import Page

LIST_TIMEOUT_S = 30.0  # of a listing while the connection is up; the first one is part of connecting
CHANGE_SETTLES_S = 0.25  # news of changed tools comes in bursts
MAX_PAGES = 100  # of one listing
MAX_TOOLS = 1000  # of one server
FRESH_S = 30.0  # a listing is, where the server neither announces changes nor says how long
SHORTEST_FRESH_S = 1.0  # and at least, whatever the server says

BAD_HEADERS = "its x-mcp-header annotations are not those of the specification"


async def list_tools(client: Client, *, within_s: float = LIST_TIMEOUT_S) -> Listing:
    """All tools of a server, as many as are taken from one.

    The first page is waited for. Where a later one does not come within the time, or a page leads to one that was seen
    already, or is refused, the listing ends with what it had and says why.

    Raises:
        MCPError: the server or the connection failed.
        ValidationError: the answer is no tool listing.
    """
    tools: list[ListedTool] = []
    left_out: list[LeftOut] = []
    cursors: set[str | None] = {None}
    page, ttl_s, cut = Page(), None, None
    by = time.monotonic() + within_s
    for number in range(MAX_PAGES):
        wait_s = max(0.0, by - time.monotonic()) if number else None
        try:
            async with asyncio.timeout(wait_s):
                page = await _page(client, page.cursor)
        except TimeoutError:
            cut = f"page {number + 1} did not come within {within_s:g} s"
            break
        except MCPError as error:
            if number == 0 and error.code == METHOD_NOT_FOUND:  # a server of resources and prompts alone
                break
            if number == 0 or error.code in OWN_CODES - {ANSWERED}:
                raise
            cut = f"the server refused page {number + 1}"
            break
        tools += page.tools
        left_out += page.left_out
        ttl_s = page.ttl_s if ttl_s is None or page.ttl_s is None else min(ttl_s, page.ttl_s)
        if page.cursor is None:
            break
        if page.cursor in cursors or len(tools) > MAX_TOOLS or number + 1 == MAX_PAGES:
            again = page.cursor in cursors
            cut = "its cursor came again" if again else f"more than {MAX_TOOLS} tools or {MAX_PAGES} pages"
            break
        cursors.add(page.cursor)
    return Listing(tools=tuple(tools[:MAX_TOOLS]), left_out=tuple(left_out), ttl_s=ttl_s, cut=cut)


async def _page(client: Client, cursor: str | None) -> Page:
    """One page, read tool by tool by :mod:`workers.tools.pages` on its way to the SDK."""
    page = Page()
    token = pages.current.set(page)
    try:
        listed = await client.list_tools(cursor=cursor)
    finally:
        pages.current.reset(token)
    accepted = {tool.name for tool in listed.tools}
    page.left_out += (LeftOut(tool.name, BAD_HEADERS) for tool in page.tools if tool.name not in accepted)
    page.tools = [tool for tool in page.tools if tool.name in accepted]
    return page


def is_stale(*, age_s: float, ttl_s: float | None, announced: bool, used: bool) -> bool:
    """Whether a listing may say less than the server would now.

    Args:
        age_s: since it was made.
        ttl_s: how long it is fresh by the server's word.
        announced: the server tells when its tools change.
        used: a tool was called since, which may have changed the tools.
    """
    if announced:
        return False
    if ttl_s is None or ttl_s == 0:
        return used or age_s >= (FRESH_S if ttl_s is None else SHORTEST_FRESH_S)
    return age_s >= max(ttl_s, SHORTEST_FRESH_S)


class ToolNews:
    """The listings of one client while it is up.

    Args:
        client: that.
        first: its first listing.
        on_tools: called with each further one.
        pushes: whether a server of the older protocol has a way to us besides its answers.
    """

    def __init__(
        self, client: Client, first: Listing, on_tools: Callable[[Listing], None], pushes: Callable[[], bool]
    ) -> None:
        self.used = False  # a tool was called since the last listing
        self._client = client
        self._on_tools = on_tools
        self._pushes = pushes
        self._changed = asyncio.Event()
        self._listening = True  # as long as the server takes the question for changes
        self._listed: Listing = first
        self._listed_at = time.monotonic()
        self._lists = asyncio.Lock()

    def changed(self) -> None:
        """The server says that its tools are others now."""
        self._changed.set()

    async def refresh(self, *, at_once: bool = False) -> None:
        """List again where that may give others: always ``at_once``. A listing that fails leaves the old one."""
        asked_at = time.monotonic()
        async with self._lists:
            now = time.monotonic()
            age_s = now - self._listed_at
            stale = is_stale(age_s=age_s, ttl_s=self._listed.ttl_s, announced=self._announced, used=self.used)
            if stale or (at_once and self._listed_at < asked_at):
                await self._list()

    async def follow(self) -> None:
        """List again each time the server says that its tools changed, until cancelled."""
        async with anyio.create_task_group() as group:
            if self._is_modern and self._may_change:
                group.start_soon(self._listen)
            while True:
                await self._changed.wait()
                await anyio.sleep(CHANGE_SETTLES_S)
                self._changed.clear()
                async with self._lists:
                    await self._list()

    async def _list(self) -> None:
        self.used = False
        try:
            async with asyncio.timeout(LIST_TIMEOUT_S):
                self._listed = await list_tools(self._client, within_s=LIST_TIMEOUT_S / 2)
        except (MCPError, ValidationError, TimeoutError):
            return
        finally:
            self._listed_at = time.monotonic()
        self._on_tools(self._listed)

    @property
    def _may_change(self) -> bool:
        offered = self._client.server_capabilities.tools
        return bool(offered and offered.list_changed)

    @property
    def _is_modern(self) -> bool:
        return self._client.protocol_version in MODERN_PROTOCOL_VERSIONS

    @property
    def _announced(self) -> bool:
        """Since 2026-07-28 changes are announced on a stream that the client opens; before, without being asked."""
        return self._may_change and (self._listening if self._is_modern else self._pushes())

    async def _listen(self) -> None:
        """Keep the stream open; what changed while it was not is found by listing again."""
        failures = 0
        while True:
            try:
                async with self._client.listen(tools_list_changed=True) as news:
                    if failures:
                        self._changed.set()
                    async for _ in news:
                        failures = 0
                        self._changed.set()
            except MCPError as error:
                if error.code == METHOD_NOT_FOUND:
                    self._listening = False
                    return
            except SubscriptionLost:
                pass  # asked for again below
            failures += 1
            await anyio.sleep(pause_s(failures, random.random()))  # noqa: S311  # jitter is no secret
