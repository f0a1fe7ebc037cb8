"""Celery's own tables, where there is a broker: its results to read, its schedules to set.

Their applications bring pages for Django's plain admin, which look lost in this one.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django_celery_beat import admin as of_beat
from django_celery_beat import models as beat
from django_celery_results import admin as of_results
from django_celery_results.models import GroupResult, TaskResult
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from batches.admin.base import ConsoleAdmin

for model in (
    GroupResult,  # a group is a batch here
    TaskResult,
    beat.PeriodicTask,
    beat.ClockedSchedule,
    beat.CrontabSchedule,
    beat.IntervalSchedule,
    beat.SolarSchedule,
):
    admin.site.unregister(model)


@admin.register(TaskResult)
class Results(ConsoleAdmin, of_results.TaskResultAdmin):  # type: ignore[misc]
    """Mirrors of finished tasks: nothing is read from them, so nothing of them is edited."""

    date_hierarchy = None
    list_display = ("task_id", "task_name", "status", "worker", "date_done")
    list_filter = ("status",)
    search_fields = ("task_id__exact",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class _TaskSelect(UnfoldAdminSelectWidget, of_beat.TaskSelectWidget):  # type: ignore[misc]
    """The registered tasks, in the skin's clothes."""


class _ScheduleForm(of_beat.PeriodicTaskForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = _TaskSelect()


@admin.register(beat.PeriodicTask)
class PeriodicTasks(ConsoleAdmin, of_beat.PeriodicTaskAdmin):  # type: ignore[misc]
    form = _ScheduleForm


@admin.register(beat.IntervalSchedule, beat.CrontabSchedule, beat.ClockedSchedule)
class Schedules(ConsoleAdmin):
    """What periodic tasks choose from."""
