"""Model providers: the OpenAI-compatible client and the embedded demo model, behind one interface."""
