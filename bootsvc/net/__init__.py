"""Network plumbing: datagrams with their interface, and netlink."""
