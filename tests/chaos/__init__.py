"""Chaos: seeded rounds that show that nothing is left running and nothing is lost. `python -m tests.chaos --help`."""
