"""The appliance: servers, state and the `wwctl` command."""
