"""Computers of the user's own, reached over SSH, as a provider."""
