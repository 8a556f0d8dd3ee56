"""HTTP: the stages of a boot, content by digest, status."""
