"""Go's text/template for Warewulf's `.ww` files: parse once, execute for every node."""
