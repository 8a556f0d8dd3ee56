"""DHCP (RFC 2131): codec, decision, service."""
