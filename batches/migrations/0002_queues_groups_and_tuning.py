"""The seven queues, the three groups with their permissions, and how PostgreSQL keeps the task table.

Vacuum settings: after a mass finish and before a vacuum, one claim was seen to take 1.5 s among the
dead entries of its index; thresholds by share of a million rows would wait far too long.
"""

from django.contrib.auth.management import create_permissions
from django.db import migrations

QUEUES = {
    "high_priority": 10,
    "agent_tasks": 7,
    "validation": 6,
    "tests": 6,
    "default": 5,
    "mcp_operations": 5,
    "low_priority": 1,
}

VIEW = [
    "artefact",
    "attempt",
    "batch",
    "dependency",
    "logline",
    "queue",
    "resource",
    "task",
    "worker",
    "workspace",
]
GROUPS = {
    "viewer": [f"view_{model}" for model in VIEW],
    "operator": [f"view_{model}" for model in VIEW]
    + ["add_batch", "change_batch", "delete_batch", "change_task"],
    "admin": [f"view_{model}" for model in VIEW]
    + ["add_batch", "change_batch", "delete_batch", "change_task", "change_queue"]
    + ["add_workspace", "change_workspace", "delete_workspace"],
}


def make_queues(apps, schema_editor):
    queue = apps.get_model("batches", "Queue")
    for name, priority in QUEUES.items():
        queue.objects.get_or_create(name=name, defaults={"priority": priority})


def make_groups(apps, schema_editor):
    # Django makes permissions after all migrations; the groups need them now.
    config = apps.get_app_config("batches")
    config.models_module = True
    create_permissions(config, apps=apps, verbosity=0)
    config.models_module = None
    group = apps.get_model("auth", "Group")
    permission = apps.get_model("auth", "Permission")
    for name, codenames in GROUPS.items():
        wanted = permission.objects.filter(
            content_type__app_label="batches", codename__in=codenames
        )
        if missing := set(codenames) - set(wanted.values_list("codename", flat=True)):
            raise RuntimeError(f"There is no permission {', '.join(sorted(missing))}.")
        group.objects.get_or_create(name=name)[0].permissions.add(*wanted)


def tune(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute(
        "ALTER TABLE batches_task SET (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, "
        "autovacuum_vacuum_threshold = 5000, autovacuum_analyze_scale_factor = 0.02, "
        "autovacuum_vacuum_cost_delay = 0)"
    )


class Migration(migrations.Migration):
    dependencies = [
        ("batches", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [
        migrations.RunPython(make_queues, migrations.RunPython.noop),
        migrations.RunPython(make_groups, migrations.RunPython.noop),
        migrations.RunPython(tune, migrations.RunPython.noop),
    ]
