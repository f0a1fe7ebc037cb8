"""The shipped settings, with what tests must differ in and nothing else."""

import os
import sys
import tempfile
from pathlib import Path

if "DATA_DIR" not in os.environ:
    os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="oc-test-")
os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "x" * 50)
os.environ.setdefault("SQLITE_SYNCHRONOUS", "OFF")
os.environ.setdefault("ALLOWED_HOSTS", "testserver,127.0.0.1,localhost")

from config.settings import *  # noqa: F403
from config.settings import DATA_DIR, DATABASES, INSTALLED_APPS, TASK_KINDS

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_ROOT = DATA_DIR / "static"
Path(STATIC_ROOT).mkdir(parents=True, exist_ok=True)

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, because worker processes and second connections must see the same rows.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}

TASK_KINDS = TASK_KINDS | {
    kind: {
        "processor": f"tests.processors.{name}",
        "endpoint": kind,
        "items": "items",
        "queue": "default",
    }
    for kind, name in {
        "noop": "Nothing",
        "sleep": "Sleep",
        "append": "Append",
        "misbehave": "Misbehave",
        "modelled": "Modelled",
    }.items()
}
TASK_KINDS |= {
    kind: {
        "processor": f"tests.processes.kinds.{name}",
        "endpoint": kind,
        "items": "items",
        "queue": "default",
        "long": kind == "long",
    }
    for kind, name in {
        "linger": "Linger",
        "long": "Linger",
        "who": "Who",
        "hang": "Hang",
        "heir": "Heir",
        "alone": "Alone",
        "messy": "Messy",
    }.items()
}
TASK_KINDS["heir"]["inputs"] = "batches.predecessors.inputs"
TASK_KINDS["messy"]["tidy"] = True
if "pytest" in sys.modules and "django_celery_results" not in INSTALLED_APPS:
    # Their tables are there whatever backend a test is about. A process that a test starts has
    # them with a broker only, as it is shipped: they take a third of its start.
    INSTALLED_APPS[-1:-1] = ["django_celery_results", "django_celery_beat", "batches.beat"]
