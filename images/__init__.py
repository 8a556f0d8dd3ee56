"""Containers in, bootable root out; knows nothing of nodes."""
