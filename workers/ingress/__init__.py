"""Where messages come in. An ingress speaks a protocol to people and :class:`workers.gateway.Gateway` to the rest."""
