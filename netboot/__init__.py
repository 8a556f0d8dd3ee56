"""What a node is handed: pure decisions about nodes, kernel arguments, scripts and overlays."""
