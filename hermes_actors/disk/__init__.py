"""Files that stay whole: how they are replaced, and how a SQLite file is opened, checked, migrated and set aside."""
