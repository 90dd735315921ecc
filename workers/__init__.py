"""A worker's process of the hermes_actors gateway: its agent actors, their MCP connections, its shards, its listener."""
