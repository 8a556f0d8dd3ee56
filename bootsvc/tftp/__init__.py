"""TFTP (RFC 1350): codec, session, service."""
