"""`wwctl container`, `image` and `vnfs`: one noun in two vocabularies."""
