"""The server as a process: its capabilities, its systemd unit, and what stands in its way."""
