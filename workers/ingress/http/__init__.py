"""HTTP: the OpenAI-compatible API and ``/api/sessions`` (docs/reference/http.md)."""

from workers.ingress.http.connection import ClientLimits
from workers.ingress.http.server import HttpIngress

__all__ = ["ClientLimits", "HttpIngress"]
