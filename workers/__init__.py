"""A worker's process of the hermes_actors gateway: agent actors, their MCP connections, shards, a listener."""
