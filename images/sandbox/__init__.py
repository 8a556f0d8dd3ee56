"""Run a command in an image: a plan of operations, a supervisor on the host, an init inside."""
