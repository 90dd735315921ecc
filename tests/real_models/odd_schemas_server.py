"""A stdio MCP server whose tools are sound but for the form of a schema: python -S odd_schemas_server.py FORM …

Every tool takes a text and gives it back. ``plain`` has an ordinary schema; each FORM adds a tool of that name. These
are forms that llama.cpp's server refuses, and with them the whole request. Standard library only.
"""

from __future__ import annotations

import json
import sys
from typing import Any

TEXT = {"type": "string"}
FORMS: dict[str, Any] = {
    "anything": {"type": "object", "properties": {"text": TEXT, "more": True}},
    "recursive": {"type": "object", "properties": {"text": TEXT, "child": {"$ref": "#"}}},
    "dangling": {"type": "object", "properties": {"text": TEXT, "more": {"$ref": "#/$defs/nowhere"}}},
    "foreign": {"type": "object", "properties": {"text": TEXT, "more": {"$ref": "https://example.com/more.json"}}},
    "no_choice": {"type": "object", "properties": {"text": TEXT, "more": {"enum": []}}},
    "own_type": {"type": "object", "properties": {"text": TEXT, "more": {"type": "uuid"}}},
    "no_properties": {"type": "object", "properties": None},
    "by_anchor": {"properties": {"text": {"$ref": "#there"}}, "$defs": {"A": {"$anchor": "there", "type": "string"}}},
    "by_id": {"properties": {"text": {"$ref": "a.json"}}, "$defs": {"A": {"$id": "a.json", "type": "string"}}},
    "no_branches": {"properties": {"text": TEXT, "more": {"anyOf": []}, "most": {"allOf": None}}},
    "no_items": {"properties": {"text": TEXT, "more": {"type": "array", "items": None}, "most": {"type": "array"}}},
    "closed_list": {"properties": {"text": TEXT, "more": {"prefixItems": [TEXT, {"type": "int"}], "items": False}}},
    "never": {"properties": {"text": TEXT, "more": False, "most": {"anyOf": [False, TEXT]}}, "required": None},
    "many_types": {"properties": {"text": TEXT, "more": {"type": ["string", "file"]}, "most": {"type": []}}},
    "one_of": {"oneOf": [{"properties": {"text": TEXT}, "required": ["text"]}, {"properties": {"more": True}}]},
}
PLAIN = {"type": "object", "properties": {"text": TEXT}, "required": ["text"]}


def answered(number: Any, result: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", "id": number, "result": result}), flush=True)  # noqa: T201  # the protocol


def main(forms: list[str]) -> None:
    schemas = {"plain": PLAIN, **{form: FORMS[form] for form in forms}}
    tools = [{"name": name, "description": "Gives text back.", "inputSchema": schemas[name]} for name in schemas]
    for line in sys.stdin:
        match json.loads(line):
            case {"method": "initialize", "id": number}:
                info = {"name": "odd", "version": "1"}
                answered(number, {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info})
            case {"method": "tools/list", "id": number}:
                answered(number, {"tools": tools})
            case {"method": "tools/call", "id": number, "params": params}:
                words = str(params.get("arguments", {}).get("text"))
                answered(number, {"content": [{"type": "text", "text": words}]})
            case {"id": number}:
                error = {"code": -32601, "message": "no such method"}
                print(json.dumps({"jsonrpc": "2.0", "id": number, "error": error}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
