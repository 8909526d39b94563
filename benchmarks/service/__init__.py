"""The service under load, and under what is sent to break it."""
