"""The search step: how fast it is, and how soon its supernet ranks."""
