"""Measurements: whole processes, as a person has them. Every figure in the docs comes from here; tests do not time."""
