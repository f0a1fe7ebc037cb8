"""The one endpoint without a login: does this process answer?"""

from __future__ import annotations

from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class Live(APIView):
    """Asks nothing of the database: a process is not restarted because that is away."""

    authentication_classes = []
    permission_classes = []
    renderer_classes = [JSONRenderer]

    def get(self, request: Request) -> Response:
        return Response({"status": "live"})
