"""A restart in place: prepared, tried out, handed over."""
