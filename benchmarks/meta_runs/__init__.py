"""Meta-learning by workers and a parameter actor: what it loses to bare processes, and to faults."""
