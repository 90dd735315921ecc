"""Frames, codec and message types: the floor that supervisor and workers stand on.

Nothing here knows what a message means; :mod:`hermes_actors.core` and :mod:`workers` decide that.
"""
