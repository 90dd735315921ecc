"""A trial of what a configuration names: its models and its tool servers, each asked for real, apart from any gateway.

``hermes-supervisor check-config --probe`` runs it as a process of its own: ``python -m workers.probe``.
"""
