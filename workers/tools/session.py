"""The tools of one session: what it is offered, and its own connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

import orjson
from mcp import Client

from workers.json_depth import MAX_DEPTH, is_too_deep
from workers.models.offer import NO_TOOLS, Offer
from workers.models.provider import ToolCall
from workers.tools import prompts, resources
from workers.tools.catalogue import Catalogue, CatalogueTool
from workers.tools.connection import ToolConnection
from workers.tools.content import shorten
from workers.tools.entry import ServerEntry
from workers.tools.introduction import Prompt, instructions_for_model
from workers.tools.outcomes import failed, knows_no_tool
from workers.tools.owner import Unreachable
from workers.tools.toolbox import Aborted, Prompted, ToolResult, ToolsUnavailable

MAX_NOTICE_CHARS = 1000
MAX_CHECKED_CHARS = 256 * 1024  # of a call's arguments; longer ones are left to the server, unchecked


class SessionTools:
    """A :class:`workers.tools.toolbox.Toolbox` over the servers of a worker.

    Args:
        session: the session's key.
        configured: gives the worker's servers as they are configured now.
        joined: the offer of several catalogues.
    """

    __slots__ = ("_closed", "_configured", "_connections", "_entries", "_joined", "_own", "_session", "_unsettled")

    def __init__(
        self,
        session: str,
        configured: Callable[[], Sequence[ServerEntry]],
        joined: Callable[[Iterable[Catalogue]], Offer],
    ) -> None:
        self._session = session
        self._configured = configured
        self._entries = configured()
        self._joined = joined
        self._connections: dict[ServerEntry, ToolConnection] = {}
        self._own: dict[ServerEntry, Catalogue] = {}  # what the session's own connection offers
        self._unsettled = list(self._entries)  # catalogue not known, or required and not connected yet
        self._closed = False

    async def definitions(self) -> Offer:
        self._follow()
        if not self._entries:
            return NO_TOOLS
        if self._connections:
            await asyncio.gather(*(self._refresh(entry) for entry in self._entries if entry in self._connections))
        if self._unsettled:
            await self._settle()
        return self._joined(self._catalogues())

    @property
    def notice(self) -> str | None:
        if not self._entries:
            return None
        absent = [entry.absence for entry in self._entries if self._catalogue(entry) is None]
        whys = "; ".join(why for why in absent if why)
        if not whys:
            return None
        return shorten(f"Some tools are missing now, because their servers cannot be reached: {whys}", MAX_NOTICE_CHARS)

    @property
    def instructions(self) -> str:
        if not self._entries:
            return ""
        given = [
            instructions_for_model(entry.name, known.introduction.instructions)
            for entry in self._entries
            if entry.target.entry.instructions and (known := self._catalogue(entry)) is not None
        ]
        return "\n\n".join(text for text in given if text)

    @property
    def prompts(self) -> tuple[str, ...]:
        known = (offered.prompts for offered in self._catalogues())
        return tuple(prompts.signature(word, prompt) for each in known for word, prompt in each.items())

    async def prompt(self, text: str) -> Prompted | None:
        self._follow()
        word, rest = [*text[1:].split(maxsplit=1), ""][:2]
        for entry in self._entries:
            if not word.startswith(f"mcp__{entry.name}__"):
                continue
            try:
                known = await self._known(entry)
            except Unreachable as error:
                return Prompted(answer=f"{error}.", failed=True, may_pass=True)
            if (prompt := known.prompts.get(word)) is not None:
                return await self._prompted(entry, word, prompt, rest)
        return None

    async def _known(self, entry: ServerEntry) -> Catalogue:
        """A server's catalogue, also where that takes longer than turns wait for tools that they may not need.

        Raises:
            Unreachable: the server cannot be connected.
        """
        if (known := self._catalogue(entry)) is None:
            await self._connection(entry).up()
            known = self._catalogue(entry)
        if known is None:
            raise Unreachable(f"MCP server {entry.name!r} ended as soon as it was connected")
        return known

    async def _prompted(self, entry: ServerEntry, word: str, prompt: Prompt, text: str) -> Prompted:
        asked = prompts.asked(prompt, text)
        if asked.problem:
            return Prompted(answer=f"{asked.problem}\n\n{prompts.usage(word, prompt)}")
        messages: list[bytes] = []

        async def sent(client: Client, arguments: Mapping[str, Any]) -> ToolResult:
            messages.extend(await prompts.fetched(client, prompt.name, arguments))
            return ToolResult(text="")

        try:
            result = await self._connection(entry).call(prompt.name, asked.arguments, sent=sent)
        except Unreachable as error:
            return Prompted(answer=str(error), failed=True, may_pass=True)
        if result.failed:
            return Prompted(answer=result.text, failed=True, may_pass=result.outcome != "tool_error")
        return Prompted(messages=tuple(messages), answer="" if messages else "The prompt holds no messages.")

    async def call(self, call: ToolCall) -> ToolResult:
        self._follow()
        found = self._find(call.name)
        if found is None and self._unsettled:  # as after a change of the configuration
            await asyncio.gather(*(self._learn(entry) for entry in self._unsettled))
            found = self._find(call.name)
        if found is None:  # a tool that came meanwhile, unannounced
            await asyncio.gather(*(self._refresh(entry, at_once=True) for entry in self._named(call.name)))
            found = self._find(call.name)
        if found is None:
            return ToolResult(text=self._unknown(call.name), outcome="tool_error")
        entry, catalogue, tool = found
        try:
            arguments = _read(call.arguments)
        except ValueError as error:
            return _bad_arguments(str(error))
        if len(call.arguments) <= MAX_CHECKED_CHARS:
            arguments, problems = catalogue.fitted(tool, arguments)
            if problems is not None:
                return _bad_arguments(problems)
        try:
            connection = self._connection(entry)
        except Unreachable as error:
            return failed("not_sent", str(error))
        sent = resources.SENT[tool.listed.name] if tool.is_ours else None
        result = await connection.call(tool.listed.name, arguments, sent=sent)
        if knows_no_tool(result):
            await self._refresh(entry, at_once=True)
            if self._find(call.name) is None:
                return replace(result, text=f"{result.text}\n{self._unknown(call.name)}")
        return result

    async def abort(self, grace_s: float) -> Aborted:
        own = [(entry.name, connection) for entry, connection in self._connections.items() if not entry.is_shared]
        # Shielded: a caller that waits no longer must not leave calls running.
        fates = await asyncio.shield(asyncio.gather(*(connection.abort(grace_s) for _, connection in own)))
        names = [(name, fate) for (name, _), fate in zip(own, fates, strict=True)]
        ended, kept = (tuple(sorted(name for name, fate in names if fate == each)) for each in ("ended", "kept"))
        return Aborted(ended=ended, kept=kept)

    async def close(self) -> None:
        self._closed = True
        own = [(entry, connection) for entry, connection in self._connections.items() if not entry.is_shared]
        # Shielded: a caller that waits no longer must not leave servers running.
        await asyncio.shield(asyncio.gather(*(entry.end(connection) for entry, connection in own)))

    def _follow(self) -> None:
        """Take up the servers as they are configured now; those that are no more end their connections themselves."""
        if (configured := self._configured()) is self._entries:
            return
        self._unsettled = [entry for entry in configured if entry in self._unsettled or entry not in self._entries]
        self._own = {entry: offered for entry, offered in self._own.items() if entry in configured}
        self._connections = {entry: each for entry, each in self._connections.items() if not each.closed}
        self._entries = configured

    async def _settle(self) -> None:
        """Learn the catalogues that are not known and connect the required servers, all at the same time."""
        trials = [self._settle_one(entry) for entry in self._unsettled]
        errors = [error for error in await asyncio.gather(*trials, return_exceptions=True) if error is not None]
        if errors:
            raise errors[0]
        self._unsettled = [entry for entry in self._unsettled if self._catalogue(entry) is None]

    async def _settle_one(self, entry: ServerEntry) -> None:
        if entry.target.entry.required:
            try:
                await self._connection(entry).up()
            except Unreachable as error:
                raise ToolsUnavailable(f"{error}. It is required (mcp_servers.{entry.name}.required).") from error
        else:
            await self._learn(entry)

    async def _learn(self, entry: ServerEntry) -> None:
        if entry.catalogue is None:
            with suppress(Unreachable):  # the session or the entry is closing: its tools are not needed any more
                await entry.learn(lambda: self._connection(entry))

    def _named(self, tool: str) -> list[ServerEntry]:
        """The servers whose tool this would be by its name, and that can be asked without starting a process."""
        named = [entry for entry in self._entries if tool.startswith(f"mcp__{entry.name}__")]
        return [entry for entry in named if entry in self._connections or not entry.target.command]

    async def _refresh(self, entry: ServerEntry, *, at_once: bool = False) -> None:
        """List a server's tools again where others may have come or gone."""
        with suppress(Unreachable):  # it is closing
            await self._connection(entry).refresh(at_once=at_once)

    def _connection(self, entry: ServerEntry) -> ToolConnection:
        """The session's connection to a server; opened here, connected when it is used.

        Raises:
            Unreachable: the session, or the worker, is closing.
        """
        if self._closed:
            raise Unreachable("the session is closing")
        if (connection := self._connections.get(entry)) is None:
            connection = entry.open(self._session, lambda offered: self._own.update({entry: offered}))
            self._connections[entry] = connection
        return connection

    def _catalogue(self, entry: ServerEntry) -> Catalogue | None:
        return self._own.get(entry, entry.catalogue)

    def _catalogues(self) -> Iterable[Catalogue]:
        return (known for entry in self._entries if (known := self._catalogue(entry)) is not None)

    def _find(self, name: str) -> tuple[ServerEntry, Catalogue, CatalogueTool] | None:
        for entry in self._entries:
            offered = self._catalogue(entry)
            if offered is not None and (tool := offered.tools.get(name)) is not None:
                return entry, offered, tool
        return None

    def _unknown(self, name: str) -> str:
        names = [name for offered in self._catalogues() for name in offered.tools]
        close = get_close_matches(name, names)
        hint = f" Did you mean {' or '.join(close)}?" if close else ""
        return shorten(f"There is no tool {name!r}.{hint} {self.notice or ''}".rstrip(), MAX_NOTICE_CHARS)


def _read(text: str) -> dict[str, Any]:
    """The arguments of a call; models write none as null, and an object as a text that holds it.

    Raises:
        ValueError: they are not a JSON object; the text says what is wrong.
    """
    try:
        arguments = orjson.loads(text or "{}")
        if isinstance(arguments, str):
            arguments = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError as error:
        raise ValueError(f"they are not valid JSON: {error}") from None
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise ValueError("they are not a JSON object")  # noqa: TRY004  # bad input of a model, no bug
    if is_too_deep(text, arguments):
        raise ValueError(f"they are nested deeper than {MAX_DEPTH} levels")
    return arguments


def _bad_arguments(why: str) -> ToolResult:
    return ToolResult(text=f"The call was not made: its arguments are wrong: {why}", outcome="tool_error")
