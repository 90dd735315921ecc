"""Sessions: their actors, mailboxes, turns and commands."""
