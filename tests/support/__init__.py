"""Real things that tests start: servers and processes, each ended by the context that made it."""
