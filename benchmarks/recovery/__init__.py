"""A service that is killed at each step of its way, and what it needs taken away."""
