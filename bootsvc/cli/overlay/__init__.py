"""`wwctl overlay`: what nodes get on top of their image."""
