"""Runs: turns that a program starts, leaves, and looks at when it likes."""
