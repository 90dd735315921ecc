"""Agent actors: sessions in memory, and a turn from its message to its end."""
