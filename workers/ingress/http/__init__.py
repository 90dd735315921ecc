"""HTTP: the OpenAI-compatible API and ``/api/sessions`` (docs/reference/http.md)."""
