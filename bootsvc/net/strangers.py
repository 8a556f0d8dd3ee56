"""Who asks from a network that is not served: the log says so once for each /24, of a few."""

import logging
from ipaddress import IPv4Address, IPv4Network

log = logging.getLogger(__name__)

MAX_TOLD = 10
"""Networks that are spoken of: a source may be forged."""


class Strangers:
    """Those of one service; its setting `bootsvc: SERVICE: networks:` lets more in."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._told: set[IPv4Network] = set()

    def tell(self, address: IPv4Address) -> None:
        network = IPv4Network((address, 24), strict=False)
        if len(self._told) < MAX_TOLD and network not in self._told:
            self._told.add(network)
            log.warning(
                "%s: %s is in no network that is served (`bootsvc: %s: networks:` names more)",
                *(self._service, address, self._service),
            )
