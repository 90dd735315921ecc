"""Worker processes: when they start, restart and end, and which shards they own. Pure."""
