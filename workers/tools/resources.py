"""A server's resources as two tools, so that a model can follow the links that results hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mcp import Client, MCPError
from mcp_types import METHOD_NOT_FOUND, CallToolResult, EmbeddedResource

from workers.tools.catalogue import LIST_RESOURCES, READ_RESOURCE
from workers.tools.content import to_tool_result
from workers.tools.toolbox import ToolResult

NOTHING_LISTED: Final = "(there are no resources)"
NOTHING_READ: Final = "(the resource is empty)"


async def listed(client: Client, arguments: Mapping[str, Any]) -> ToolResult:
    """A page of the resources of a server, a line each; the first page has the templates of further ones too.

    Raises:
        MCPError: the server or the connection failed.
    """
    page = await client.list_resources(cursor=arguments.get("cursor"))
    lines = [_line(each.uri, each.name, each.mime_type, each.description) for each in page.resources]
    if "cursor" not in arguments:
        lines += await _templates(client)
    if page.next_cursor is not None:
        lines.append(f"There are more: ask again with the cursor {page.next_cursor!r}.")
    return ToolResult(text="\n".join(lines) or NOTHING_LISTED)


async def read(client: Client, arguments: Mapping[str, Any]) -> ToolResult:
    """What a resource holds, as what a tool returns.

    Raises:
        MCPError: the server or the connection failed, or there is no such resource.
    """
    found = await client.read_resource(arguments["uri"])
    blocks = [EmbeddedResource(type="resource", resource=contents) for contents in found.contents]
    if not blocks:
        return ToolResult(text=NOTHING_READ)
    return to_tool_result(CallToolResult(content=list(blocks)))


async def _templates(client: Client) -> list[str]:
    try:
        page = await client.list_resource_templates()
    except MCPError as error:
        if error.code == METHOD_NOT_FOUND:  # it has none
            return []
        raise
    return [_line(each.uri_template, each.name, each.mime_type, each.description) for each in page.resource_templates]


def _line(uri: str, name: str, kind: str | None, about: str | None) -> str:
    return " ".join(
        part for part in (str(uri), name, f"({kind})" if kind else "", f"- {about}" if about else "") if part
    )


SENT: Final = {LIST_RESOURCES.name: listed, READ_RESOURCE.name: read}
