"""Clouds on loopback that speak the wire formats of the real ones, keep their own bills and misbehave as they are told.

A rented machine is real (machines/); its GPU is simulated and says so. Nothing here is used for a real cloud, and the
providers do not know that it exists: they reach it by the endpoint variables of the clouds' own SDKs.
"""
