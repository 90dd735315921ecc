"""The pages that the long suites write are of the versions that the suites meet now."""

from __future__ import annotations

from configparser import ConfigParser

from fakes.pages import ROOT
from real_clients.clients import CLIENTS
from real_clients.run import PAGE as CLIENTS_PAGE
from real_models import servers as models
from real_models.run import PAGE as MODELS_PAGE
from real_tools.run import PAGE as TOOLS_PAGE
from real_tools.servers import SERVERS as TOOL_SERVERS


def test_the_page_on_model_servers_is_of_the_versions_that_are_met() -> None:
    page = MODELS_PAGE.read_text()

    pinned = (models.XLLAMACPP, models.LITELLM, models.VLLM, models.TRANSFORMERS)
    assert [one for one in pinned if models.version(one) not in page] == []


def test_the_page_on_mcp_servers_is_of_the_versions_that_are_met() -> None:
    page = TOOLS_PAGE.read_text()

    assert [server.package for server in TOOL_SERVERS if server.package.replace("==", " ") not in page] == []


def test_the_page_on_clients_is_of_the_versions_that_are_met() -> None:
    page = CLIENTS_PAGE.read_text()

    lines = {
        client.name: [f"- **{client.name}**: {text}\n" for text in (client.versions, "not run")] for client in CLIENTS
    }
    assert [name for name, allowed in lines.items() if not any(line in page for line in allowed)] == []


def test_the_suite_and_the_long_run_meet_the_same_llama_cpp() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")

    assert models.XLLAMACPP in setup["options.extras_require"]["test"].split()
