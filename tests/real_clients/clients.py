"""The clients of other people that the suite meets: how each is had, and what of it is tried."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fakes.outside import npm_folder, python_env

PROGRAMS = Path(__file__).with_name("programs")
NODE = "node@24.21.0"  # the clients of npm need 22 or newer; distributions have older ones
AI, ZOD = "ai@7.0.173", "zod@4.6.7"

CHAT, STREAM, TOOL, OUTPUT, PAGE = "chat", "stream", "tool", "output", "page"
RESPONSES, RESPONSES_STREAM, RESPONSES_TOOL = "responses", "responses stream", "responses tool"
IN_CHAT = frozenset({CHAT, STREAM, TOOL})
IN_RESPONSES = frozenset({RESPONSES, RESPONSES_STREAM, RESPONSES_TOOL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client, and what it can do."""

    name: str  # as people call it
    packages: tuple[str, ...]  # each with its version; the client itself first
    program: str  # in ``programs``
    does: frozenset[str] = IN_CHAT
    kind: Literal["pip", "npm"] = "pip"
    output_tool: str = ""  # the tool that it asks for an output type with
    bounded: bool = True  # whether its users can bound the wait for an answer
    impatient: bool = False  # its own bound is shorter than an ordinary long turn
    answers_with: str = ""  # a tool with which it ends each run, as smolagents' agent does
    page: str = ""  # its page in docs/howto/clients
    says: tuple[str, ...] = ()  # what the programs of the page print, to the demo model

    @property
    def can(self) -> frozenset[str]:
        """What a situation may need."""
        return self.does | {PAGE} if self.page else self.does

    @property
    def versions(self) -> str:
        """Of the client, and of what was chosen beside it."""
        return ", ".join(version(package) for package in self.packages if not package.startswith("zod@"))

    def installed(self, folder: Path) -> list[str]:
        """The command that runs the client's program, all of it below ``folder``.

        Raises:
            Unavailable: it is not to be had.
        """
        here = folder / f"{self.kind}-{re.sub('[^a-z]+', '-', self.name.lower()).strip('-')}"
        if self.kind == "pip":
            return [str(python_env(here, *self.packages)), str(PROGRAMS / self.program)]
        return node_program(folder, here, self.program, *self.packages)


def node_program(folder: Path, here: Path, program: str, *packages: str) -> list[str]:
    """The command that runs a program of Node with npm packages, which it finds in ``here``.

    Raises:
        Unavailable: a package is not to be had.
    """
    node = npm_folder(folder / "node", NODE) / "node"
    npm_folder(here, *packages)
    for file in PROGRAMS.glob("*.mjs"):  # Node looks for packages beside the program
        shutil.copy(file, here)
    return [str(node), str(here / program)]


def version(package: str) -> str:
    """``name version`` of a pinned package of PyPI or npm."""
    return re.sub(r"(\[.*\])?==|(?<=.)@(?=\d)", " ", package)


def _npm(name: str, program: str, *packages: str, **fields: object) -> Client:
    return Client(name=name, program=program, packages=packages, kind="npm", **fields)  # type: ignore[arg-type]  # of Client


WORDS, LOOKED = "word1 word2 word3", "The tool look said: rain in the east"
GREETED, CITY = "You said: Hello", "name='Oslo' people=700000"
CLIENTS = (
    Client(name="openai (PyPI)", packages=("openai==3.57.0",), program="openai_client.py", does=IN_CHAT | IN_RESPONSES),
    _npm("openai (npm)", "openai_client.mjs", "openai@7.59.0", does=IN_CHAT | IN_RESPONSES),
    _npm("@ai-sdk/openai-compatible", "ai_sdk_compatible.mjs", "@ai-sdk/openai-compatible@3.0.92", AI, ZOD,
        page="ai-sdk.md", says=(WORDS, LOOKED),
    ),
    _npm("@ai-sdk/openai", "ai_sdk_openai.mjs", "@ai-sdk/openai@4.0.118", AI, ZOD, does=IN_CHAT | IN_RESPONSES,
        page="ai-sdk.md", says=(GREETED,),
    ),
    _npm(
        "@ai-sdk/open-responses", "ai_sdk_open_responses.mjs", "@ai-sdk/open-responses@2.0.36", AI, ZOD,
        does=IN_RESPONSES, page="ai-sdk.md", says=(GREETED,),
    ),
    Client(
        name="langchain-openai", packages=("langchain-openai==1.7.4",), program="langchain_client.py",
        does=IN_CHAT | IN_RESPONSES | {OUTPUT}, output_tool="Place", page="langchain.md",
        says=(WORDS, f"{LOOKED}\n{CITY}"),
    ),
    _npm(
        "@langchain/openai", "langchain_client.mjs", "@langchain/openai@1.6.0", "@langchain/core@1.4.0",
        does=IN_CHAT | IN_RESPONSES, page="langchain.md", says=(WORDS,),
    ),
    Client(name="litellm", packages=("litellm==1.110.2",), program="litellm_client.py"),
    Client(
        name="pydantic-ai", packages=("pydantic-ai-slim[openai]==2.68.0",), program="pydantic_ai_client.py",
        does=IN_CHAT | IN_RESPONSES | {OUTPUT}, output_tool="final_result", page="pydantic-ai.md",
        says=(GREETED, f"{LOOKED}\n{CITY}"),
    ),
    Client(
        name="openai-agents", packages=("openai-agents==0.24.0",), program="openai_agents_client.py",
        does=IN_CHAT | IN_RESPONSES, page="openai-agents.md",
        says=(LOOKED, "You said: My name is Ada.\nYou said: What is my name?", GREETED),
    ),
    Client(
        name="llm", packages=("llm==0.36",), program="llm_client.py", bounded=False, page="llm.md", says=(WORDS, LOOKED)
    ),
    Client(
        name="llama-index", packages=("llama-index-llms-openai-like==0.8.1",), program="llama_index_client.py"
    ),
    Client(name="haystack", packages=("haystack-ai==3.4.1",), program="haystack_client.py", impatient=True),
    Client(
        name="smolagents", packages=("smolagents[openai]==1.26.0",), program="smolagents_client.py",
        answers_with="final_answer",
    ),
    Client(
        name="instructor", packages=("instructor==1.17.0",), program="instructor_client.py",
        does=frozenset({CHAT, OUTPUT}), output_tool="Place",
    ),
    Client(
        name="aider", packages=("aider-chat==0.86.2",), program="aider_client.py", does=frozenset({CHAT, STREAM}),
    ),
)  # fmt: skip
