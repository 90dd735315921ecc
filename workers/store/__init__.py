"""Where turns and transcripts live: the shard store's interface (:mod:`.shard`) and SQLite (:mod:`.sqlite`)."""
