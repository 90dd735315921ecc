"""Where a session is: the shard table, the links between workers, and the gateway that an ingress sees."""
