"""Worker processes: the only rooms that start any."""
