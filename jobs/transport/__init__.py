"""How bytes and commands reach a machine. One protocol, and one implementation per way."""
