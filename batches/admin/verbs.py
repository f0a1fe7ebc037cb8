"""What a person can do to batches and tasks: one button and one list action per verb.

A verb calls ``operations`` and tells what was done and what was refused, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.defaultfilters import pluralize
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_http_methods

from batches.admin.base import ObservedAdmin, actor_of, name_of
from batches.operations import Conflict
from batches.submission import InvalidSubmission

SHOWN_REFUSALS = 5


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing to do. ``run`` may return how many tasks it concerned; 0 counts as refused."""

    name: str
    label: str
    done: str
    """What is told afterwards, such as ``Paused``; ``{tasks}`` is what ``run`` returned."""
    run: Callable[..., int | None]
    """Called with the row and ``by``."""
    offered: Callable[[Any], bool]
    """Does a row's page show the button? ``run`` has the last word."""
    warning: str = ""
    """What a person must confirm first; empty: it can be undone and is done at once."""
    nothing: str = "There was nothing to do."
    """The refusal when ``run`` returned 0."""


class ActedOnAdmin(ObservedAdmin):
    """Rows with verbs. Whoever has ``operate_permission`` may use them on rows they can see."""

    verbs: Sequence[Verb] = ()
    operate_permission = ""

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(self.operate_permission))

    def get_urls(self) -> list[URLPattern]:
        route = path(
            "<uuid:pk>/do/<slug:verb>/",
            self.admin_site.admin_view(self.verb_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_verb",
        )
        return [route, *super().get_urls()]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        if not self.has_operate_permission(request):
            return {}
        return {
            verb.name: (partial(self.act_on_selected, verb), verb.name, verb.label)
            for verb in self.verbs
        }

    def buttons(self, request: HttpRequest, row: Any) -> list[dict[str, str]]:
        """What the page of ``row`` offers its user."""
        if not self.has_operate_permission(request):
            return []
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_verb"
        return [
            {
                "label": verb.label,
                "name": verb.name,
                "url": reverse(name, args=[row.pk, verb.name]),
                "method": "get" if verb.warning else "post",
            }
            for verb in self.verbs
            if verb.offered(row)
        ]

    @method_decorator(require_http_methods(["GET", "POST"]))
    def verb_view(self, request: HttpRequest, pk: object, verb: str) -> HttpResponse:
        """One verb on one row; GET asks for the confirmation."""
        chosen = next((each for each in self.verbs if each.name == verb), None)
        if chosen is None:
            raise Http404(f"There is nothing called {verb} to do.")
        row = self.visible_or_404(request, pk)
        if not self.has_operate_permission(request):
            raise PermissionDenied
        if request.method == "GET":
            return self.confirmation(request, chosen, [row])
        self.run(request, chosen, [row])
        page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return HttpResponseRedirect(reverse(page, args=[row.pk]))

    def act_on_selected(
        self, verb: Verb, _admin: ActedOnAdmin, request: HttpRequest, queryset: QuerySet[Any]
    ) -> HttpResponse | None:
        rows = list(queryset.order_by("pk")[: self.list_per_page + 1])
        if len(rows) > self.list_per_page:
            limit = f"At most {self.list_per_page} can be chosen at once; nothing was done."
            self.message_user(request, limit, messages.ERROR)
        elif verb.warning and "confirmed" not in request.POST:
            return self.confirmation(request, verb, rows)
        else:
            self.run(request, verb, rows)
        return None

    def run(self, request: HttpRequest, verb: Verb, rows: Sequence[Any]) -> None:
        """Do it to each row, and tell what came of it."""
        by = actor_of(request)
        done, tasks, refused = [], 0, []
        for row in rows:
            try:
                concerned = verb.run(row, by=by)
            except (Conflict, InvalidSubmission) as conflict:
                refused.append(f"{name_of(row)}: {conflict}")
                continue
            if concerned == 0:
                refused.append(f"{name_of(row)}: {verb.nothing}")
                continue
            done.append(row)
            tasks += concerned or 0
        if done:
            subject = name_of(done[0]) if len(done) == 1 else f"{len(done)} {self.plural}"
            told = verb.done.format(tasks=f"{tasks} task{pluralize(tasks)}")
            self.message_user(request, f"{told}: {subject}.", messages.SUCCESS)
        for refusal in refused[:SHOWN_REFUSALS]:
            self.message_user(request, f"{verb.label} refused. {refusal}", messages.ERROR)
        if len(refused) > SHOWN_REFUSALS:
            rest = f"{verb.label} was refused for {len(refused) - SHOWN_REFUSALS} more."
            self.message_user(request, rest, messages.ERROR)

    def confirmation(self, request: HttpRequest, verb: Verb, rows: Sequence[Any]) -> HttpResponse:
        bulk = request.method == "POST"
        what = self.opts.verbose_name if len(rows) == 1 else f"{len(rows)} {self.plural}"
        context = {
            "label": f"{verb.label} {what}",
            "warning": verb.warning,
            "rows": [name_of(row) for row in rows],
            "hidden": [
                ("action", verb.name),
                *((ACTION_CHECKBOX_NAME, str(row.pk)) for row in rows),
            ]
            if bulk
            else [],
            "back": request.get_full_path()
            if bulk
            else reverse(
                f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[rows[0].pk]
            ),
            "title": f"{verb.label} {what}?",
        }
        return self.render(request, "console/confirm.html", context)

    @property
    def plural(self) -> str:
        return str(self.opts.verbose_name_plural)
