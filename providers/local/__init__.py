"""This computer as a provider."""
