"""The supervisor's process: its actor, what it opens, records and performs."""
