"""llama.cpp's own server over a model file, in a process of its own: python llama_cpp_program.py '{"model": …}'

Prints its address as one line of JSON on stdout and serves until stdin ends, so that it cannot outlive its starter.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any


def main(wanted: dict[str, Any]) -> None:
    """Serve.

    Args:
        wanted: ``model``, a path; ``window``, tokens of a slot; ``slots``; ``memory``, bytes of address space.
    """
    # Some requests that a server ought to refuse cost it all memory there is: then it is this process that pays.
    resource.setrlimit(resource.RLIMIT_AS, (wanted["memory"], wanted["memory"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    said, log = os.dup(1), os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = wanted["model"]
    params.hostnames = ["127.0.0.1"]
    params.port = wanted.get("port", 0)
    params.n_ctx = wanted["window"] * wanted["slots"]
    params.n_parallel = wanted["slots"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 2 * wanted["slots"] + 2
    params.warmup = params.fit_params = params.kv_unified = False
    params.cache_ram_mib = 0
    params.endpoint_slots = True
    params.api_keys = wanted.get("api_keys", [])
    server = xllamacpp.Server(params)
    with os.fdopen(said, "w") as out:
        json.dump({"url": server.listening_address}, out)
    sys.stdin.read()
    os._exit(0)  # its threads wait for requests that may never end


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
