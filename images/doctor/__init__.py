"""What would go wrong if a node booted this image: one small check for each thing, in `table.CHECKS`."""
