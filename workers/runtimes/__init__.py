"""Agents behind one seam: what runs a turn."""
