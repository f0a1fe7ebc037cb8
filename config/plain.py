"""Plain Celery with django-celery-results, which ``manage.py benchmark`` runs beside ours.

Its settings of Celery are ours, so that both pools, their recycling and their events are alike.
What differs is what makes ours: rows instead of messages, and a transport that keeps its client.
"""

from config.settings import *  # noqa: F403

INSTALLED_APPS = ["django.contrib.contenttypes", "django_celery_results"]
MIDDLEWARE = []
TEMPLATES = []
ROOT_URLCONF = "config.plain"
urlpatterns: list[str] = []
CELERY_APPLICATION = "config.plain_celery.app"
CELERY_TASK_IGNORE_RESULT = False
CELERY_BROKER_TRANSPORT = None
