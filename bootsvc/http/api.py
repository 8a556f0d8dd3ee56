"""What programs ask: the status of all nodes, in Warewulf 4.7's shape."""

from collections.abc import Callable, Mapping

from aiohttp import web

from bootsvc.boots import newest_by_node, sent_and_why
from bootsvc.database import LastEvent
from bootsvc.registry import Registry
from netboot import urls


class Api:
    def __init__(
        self,
        last_events: Callable[[], Mapping[str, LastEvent]],
        registry: Callable[[], Registry],
        counters: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        self._last_events = last_events
        self._registry = registry
        self._counters = counters

    def routes(self) -> list[web.RouteDef]:
        return [web.get(urls.ROUTE_STATUS, self._status)]

    async def _status(self, request: web.Request) -> web.Response:
        """Every node with its last stage, zeros when it was never seen; and the services' counters."""
        last = newest_by_node(self._last_events().values())
        nodes = {}
        for node in self._registry().nodes:
            event = last.get(node.id)
            sent, why = sent_and_why(event.detail) if event else ("", "")
            nodes[node.id] = {
                "node name": node.id,
                "stage": event.stage if event else "",
                "sent": sent,
                "why": why,
                "ipaddr": str(event.ipaddr or "") if event else "",
                "last seen": int(event.when) if event else 0,
            }
        return web.json_response({"nodes": nodes, "counters": dict(self._counters())})
