"""A trial of the models that a configuration names, each asked for real, apart from any gateway.

``hermes-supervisor check-config --probe`` runs it as a process of its own: ``python -m workers.probe``.
:mod:`workers.tools.trial` does the same for tool servers.
"""
