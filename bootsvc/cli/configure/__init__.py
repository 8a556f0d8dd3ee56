"""`wwctl configure`: the head node's own files and keys."""
