"""Beat cleans up once an hour. It can be changed or switched off in the admin, under Schedules."""

from django.db import migrations

NAME, TASK, QUEUE = "cleanup_old_results", "cleanup_old_results", "low_priority"


def make_schedule(apps, schema_editor):
    crontab, _ = apps.get_model("django_celery_beat", "CrontabSchedule").objects.get_or_create(
        minute="17", hour="*", day_of_week="*", day_of_month="*", month_of_year="*", timezone="UTC"
    )
    apps.get_model("django_celery_beat", "PeriodicTask").objects.get_or_create(
        name=NAME,
        defaults={
            "task": TASK,
            "crontab": crontab,
            "queue": QUEUE,
            "description": "Deletes what RETENTION_DAYS and CELERY_RESULT_DAYS no longer keep.",
        },
    )


def remove_schedule(apps, schema_editor):
    apps.get_model("django_celery_beat", "PeriodicTask").objects.filter(name=NAME).delete()


class Migration(migrations.Migration):
    initial = True
    dependencies = [
        ("batches", "0005_dispatch"),
        ("django_celery_beat", "0019_alter_periodictasks_options"),
    ]
    operations = [migrations.RunPython(make_schedule, remove_schedule)]
