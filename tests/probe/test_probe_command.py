"""``hermes-supervisor check-config --probe``, on a real process and a model server of the test's."""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes.commands import python
from fakes.model_server import ModelServer, refuse, say

from hermes_actors.config.model import Config, Settings
from hermes_actors.pool.probe import ProbeFailed, probe
from workers.probe.models import WRONG_MODEL, red_square

BOUND_S = 60.0


async def checked(home: Path, config: dict[str, Any], *flags: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.yaml").write_text(yaml.safe_dump({"api_server": {"key_env": "K"}, **config}))
    (home / "config.yaml").chmod(0o600)
    command = python("from hermes_actors.cli.entry import supervisor; supervisor()")
    process = await asyncio.create_subprocess_exec(
        *command,
        *("check-config", "--probe", "--home", str(home), *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"K": "a-key-for-callers-0123456789", "SECRET": "the-models-key-0123456789", "PATH": "/usr/bin:/bin"},
    )
    async with asyncio.timeout(BOUND_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_the_demo_model_is_tried_and_the_exit_code_is_0(tmp_path: Path) -> None:
    code, out, err = await checked(tmp_path / "home", {"model": {"provider": "demo"}})

    assert (code, err) == (0, "")
    assert "answers" in out
    assert "Nothing would fail every turn" in out
    assert max(map(len, out.splitlines())) <= 240
    assert out.count("What to do:") >= 1


async def test_each_model_is_asked_and_a_primary_without_key_is_bad(tmp_path: Path) -> None:
    async with ModelServer() as primary, ModelServer() as fallback:
        primary.script(*[refuse(401, {"error": {"message": "Incorrect API key provided"}})] * 9)
        fallback.script(*[say("one two")] * 9)
        config = {
            "model": {"provider": "custom", "default": "m", "base_url": primary.base_url, "key_env": "SECRET"},
            "fallback_providers": [{"model": "spare", "base_url": fallback.base_url}],
        }

        code, out, _ = await checked(tmp_path / "home", config, "--json")

        reports = json.loads(out)["probe"]
        assert code == 1
        assert [(told["about"], told["name"], told["detail"]) for told in reports] == [
            ("model", "model", "m"),
            ("model", "fallback 1", "spare"),
        ]
        levels = [{check["what"]: check["level"] for check in told["checks"]} for told in reports]
        assert levels[0] == {"answers": "bad"}
        assert levels[1]["answers"] == levels[1]["stream"] == "ok"
        assert primary.count == 1, "who does not answer is asked nothing else"
        assert {request.body["model"] for request in fallback.requests} == {"spare", WRONG_MODEL}
        assert "the-models-key" not in out


async def test_each_tool_server_is_started_once_and_one_that_does_not_start_is_bad(tmp_path: Path) -> None:
    broken = "import sys; sys.exit('no contexts are defined')"
    config = {
        "model": {"provider": "demo"},
        "mcp_servers": {
            "time": {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]},
            "broken": {"command": sys.executable, "args": ["-c", broken]},
            "off": {"command": "/nowhere", "enabled": False},
        },
    }

    code, out, _ = await checked(tmp_path / "home", config, "--json")

    reports = {told["name"]: told for told in json.loads(out)["probe"] if told["about"] == "server"}
    assert (code, set(reports)) == (1, {"MCP server time", "MCP server broken"})
    levels = {check["what"]: check["level"] for check in reports["MCP server time"]["checks"]}
    assert (levels["start"], levels["tools"]) == ("ok", "ok")
    (bad,) = [check for check in reports["MCP server broken"]["checks"] if check["level"] == "bad"]
    assert "no contexts are defined" in bad["remedy"]


async def test_a_server_that_refuses_tools_is_bad_for_who_configured_tool_servers(tmp_path: Path) -> None:
    async with ModelServer() as server:
        words = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        server.script(say("one two"), refuse(400, {"error": {"message": words}}), *[say("red")] * 9)
        config = {
            "model": {"provider": "custom", "default": "m", "base_url": server.base_url},
            "mcp_servers": {"off": {"command": "/bin/false"}},
        }

        code, out, _ = await checked(tmp_path / "home", config)

        assert code == 1
        assert "--enable-auto-tool-choice" in out
        assert "would fail every turn, or be missing in it" in out


def test_a_trial_that_breaks_off_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes_actors.pool.probe.MODELS", "no_such_module_of_ours")

    with pytest.raises(ProbeFailed, match="no_such_module_of_ours"):
        list(probe(Settings(config=Config(), environment={}, api_keys={}), home=tmp_path))


def test_the_picture_is_a_png_file_of_one_colour() -> None:
    data = red_square(32)

    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", data[16:24]) == (32, 32)
    start = data.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", data[start - 8 : start - 4])
    assert zlib.decompress(data[start : start + length])[1:4] == b"\xff\x00\x00"
