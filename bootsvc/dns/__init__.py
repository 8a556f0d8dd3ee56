"""DNS: the names of nodes and their networks, and everything else from the upstream servers."""
