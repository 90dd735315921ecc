"""Drains and planned restarts. Pure."""
