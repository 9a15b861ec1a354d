# -*- test-case-name: tests.v2.test_front -*-
"""
What every request of the registry passes before a route is looked up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.web.resource import Resource
from werkzeug.exceptions import BadRequest

from xferd.v2.responses import respond_http_error
from xferd.web.guard import check_path

if TYPE_CHECKING:
    from twisted.web.resource import IResource
    from twisted.web.server import Request


class Front(Resource):
    """
    The resource in front of the routes.
    """

    isLeaf = True

    def __init__(self, routes: IResource) -> None:
        super().__init__()
        self._routes = routes

    def render(self, request: Request) -> int | bytes:
        """
        Refuse a path that is not text, or pass the request to the routes.
        """
        try:
            check_path(request)
        except BadRequest as refusal:
            return respond_http_error(request, refusal)
        rendered: int | bytes = self._routes.render(request)
        return rendered
