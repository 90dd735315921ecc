"""What is kept from whom: secrets, files, message bodies."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from e2e.conftest import Counting, on
from fakes.model_server import ModelServer
from fakes.running_gateway import KEY, RunningGateway

SECRET = "hunter2-hunter2-hunter2"
BODY = "the-words-of-a-person"


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_secrets_stay_with_who_needs_them_and_bodies_out_of_the_logs(
    tmp_path: Path, model: ModelServer, counting: Counting
) -> None:
    home = tmp_path / "home"
    config: dict[str, Any] = on(model, mcp_servers={"counting": {**counting.config, "env": {"FOR_TOOL": "${TOKEN}"}}})
    config["model"]["key_env"] = "MODEL_KEY"
    environ = {"MODEL_KEY": f"{SECRET}-model", "TOKEN": f"{SECRET}-tool", "UNRELATED": f"{SECRET}-unrelated"}
    async with RunningGateway(home, config, environ=environ) as gateway:
        await gateway.say(f'[[tool:echo:{{"text": "{BODY}"}}]]', "a")
        await gateway.chat(f"[[http:401]] {BODY}", "a")
        (tool,) = counting.pids
        children = [process.pid for process in gateway.processes()[1:] if process.pid != tool]
        seen = {pid: environment_of(pid) for pid in children}
        tool_environment = environment_of(tool)
        await gateway.ctl("status")
        files = [path for path in home.rglob("*") if path.name not in ("config.yaml", "output.log")]
        modes = {path: stat.S_IMODE(path.stat().st_mode) for path in files}

    assert model.requests[0].headers["Authorization"] == f"Bearer {SECRET}-model"
    assert not [
        pid for pid, environment in seen.items() if SECRET.encode() in environment or KEY.encode() in environment
    ]
    assert f"FOR_TOOL={SECRET}-tool".encode() in tool_environment
    assert b"UNRELATED" not in tool_environment
    assert b"MODEL_KEY" not in tool_environment
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
    logs = "".join(path.read_text() for path in home.glob("logs/*.log")) + gateway.output()
    assert logs
    for hidden in (SECRET, KEY, BODY):
        assert hidden not in logs
