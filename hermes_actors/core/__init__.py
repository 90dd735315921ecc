"""The supervisor's decisions: pure functions of state, event and time.

Nothing here touches a file, a socket, a clock, a process or a log; what is wanted of those is returned as effects.
"""
