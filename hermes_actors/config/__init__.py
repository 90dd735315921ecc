"""The configuration: frozen types (:mod:`.model`) and the only reader of files and environment (:mod:`.load`)."""
