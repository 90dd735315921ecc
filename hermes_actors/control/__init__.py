"""The control socket of a running supervisor: its messages, its server, and the client behind ``hermes-ctl``."""
