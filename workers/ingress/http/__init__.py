"""HTTP: the OpenAI-compatible API and ``/api/sessions`` (docs/reference/http.md)."""

from workers.ingress.http.connection import Limits
from workers.ingress.http.server import HttpIngress

__all__ = ["HttpIngress", "Limits"]
