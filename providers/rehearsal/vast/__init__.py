"""Vast.ai on loopback: a market of hosts, contracts on it with their bill, and the API by which both are reached."""
