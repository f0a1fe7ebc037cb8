"""The content security policy per response: strict, with one exception under the admin."""

from csp.constants import UNSAFE_EVAL
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse


class ConsoleCSPMiddleware(CSPMiddleware):
    """``CONTENT_SECURITY_POLICY``, and ``unsafe-eval`` where the admin's skin runs Alpine."""

    def get_policy_parts(
        self,
        request: HttpRequest,
        response: HttpResponseBase,
        report_only: bool = False,  # noqa: FBT001, FBT002 - as in the class it extends
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if request.path_info.startswith(reverse("admin:index")):
            parts.update = {**(parts.update or {}), "script-src": [UNSAFE_EVAL]}
        return parts
