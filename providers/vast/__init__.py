"""Vast.ai: hosts of many owners, rented as containers."""
