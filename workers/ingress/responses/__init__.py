"""The Open Responses API, specification of 2026-04-24 (docs/reference/http.md)."""
