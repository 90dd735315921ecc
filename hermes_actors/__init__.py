"""The supervisor's process of the hermes_actors gateway, and what both sides of the worker boundary share."""
