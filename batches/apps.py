"""The Django app."""

import gc
from importlib import import_module

from django.apps import AppConfig


class BatchesConfig(AppConfig):
    name = "batches"
    verbose_name = "Job console"

    def ready(self) -> None:
        import_module("batches.checks")  # registers the system checks
        # What is here now stays: nobody need look it over for garbage.
        gc.freeze()
        gc.enable()
