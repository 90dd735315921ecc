"""Marks, strikes, and what is known of sessions. Pure."""
