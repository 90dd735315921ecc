"""What operators request of a gateway, and what they get: typed, pure data that both ends of the socket share.

:mod:`requests <hermes_actors.operations.requests>` has the request classes, each of which names the class of its result
in :mod:`results <hermes_actors.operations.results>`; :mod:`workers <hermes_actors.operations.workers>` has what the
supervisor requests of workers for an operator. :mod:`plain <hermes_actors.operations.plain>` makes dicts of them, and
checks dicts that arrive.
"""
