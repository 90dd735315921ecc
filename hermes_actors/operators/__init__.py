"""The socket of hermes-ctl: its messages and both of its ends."""
