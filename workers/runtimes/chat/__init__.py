"""The built-in agent: models, tools and a transcript."""
