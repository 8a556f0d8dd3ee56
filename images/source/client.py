"""aiohttp, loaded without the system's certificates: importing it reads them twice, and plain http has no use for them.

Whoever speaks TLS with it brings a context of their own; one of aiohttp's would trust nobody.
"""

import ssl

_NAME = "set_default_verify_paths"

setattr(ssl.SSLContext, _NAME, lambda self: None)
try:
    import aiohttp
finally:
    # The class only inherits the method.
    delattr(ssl.SSLContext, _NAME)

__all__ = ["aiohttp"]
