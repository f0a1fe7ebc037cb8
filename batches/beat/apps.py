"""The application whose migration sets the schedule."""

from django.apps import AppConfig


class Beat(AppConfig):
    name = "batches.beat"
    label = "batches_beat"
