"""The registry, the ledger and what is known of lost files: the only rooms of the supervisor that name a database."""
