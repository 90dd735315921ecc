"""The built-in agent: its decisions, what it sends of the past, how it makes that fit, and its failures in words."""
