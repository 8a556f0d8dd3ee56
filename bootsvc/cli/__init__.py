"""The `wwctl` command, one module a noun."""
