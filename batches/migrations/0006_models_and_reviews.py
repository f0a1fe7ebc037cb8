"""The models that agents work with, decisions on patches, and who has a workspace to itself."""

import batches.models.batch
import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

EVERYBODY = ["view_modelprofile"]
GROUPS = {
    "viewer": EVERYBODY,
    "operator": EVERYBODY,
    "admin": [*EVERYBODY, "add_modelprofile", "change_modelprofile", "delete_modelprofile"],
}


def grant(apps, schema_editor):
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
        # A group that somebody deleted stays deleted.
        for found in group.objects.filter(name=name):
            found.permissions.add(*wanted)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("batches", "0005_dispatch"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Decision",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("attempt", models.PositiveIntegerField()),
                (
                    "verb",
                    models.CharField(
                        choices=[("apply", "Apply"), ("discard", "Discard")], max_length=7
                    ),
                ),
                ("at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["-at"],
            },
        ),
        migrations.CreateModel(
            name="ModelProfile",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=batches.models.batch.new_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "name",
                    models.CharField(
                        max_length=100,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[A-Za-z0-9][A-Za-z0-9._:/@+-]*\\Z",
                                "Use letters, digits, dots, dashes, underscores, colons and slashes, as Ollama does.",
                            )
                        ],
                    ),
                ),
                (
                    "protocol",
                    models.CharField(
                        choices=[("ollama", "Ollama"), ("openai", "OpenAI-compatible")],
                        default="ollama",
                        max_length=6,
                    ),
                ),
                ("endpoint", models.CharField(blank=True, default="", max_length=2000)),
                ("model", models.CharField(blank=True, default="", max_length=200)),
                (
                    "num_ctx",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(256),
                            django.core.validators.MaxValueValidator(10000000),
                        ],
                    ),
                ),
                (
                    "temperature",
                    models.FloatField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(0.0),
                            django.core.validators.MaxValueValidator(2.0),
                        ],
                    ),
                ),
                ("keep_alive", models.CharField(blank=True, default="", max_length=20)),
                ("secret", models.CharField(blank=True, default="", max_length=1000)),
                (
                    "parallel",
                    models.PositiveIntegerField(
                        blank=True,
                        null=True,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(10000),
                        ],
                    ),
                ),
                (
                    "max_requests",
                    models.PositiveIntegerField(
                        default=60,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100000),
                        ],
                    ),
                ),
                (
                    "max_tool_calls",
                    models.PositiveIntegerField(
                        default=300,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000),
                        ],
                    ),
                ),
                (
                    "max_tokens",
                    models.PositiveBigIntegerField(
                        default=400000,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1000000000),
                        ],
                    ),
                ),
                (
                    "max_files",
                    models.PositiveIntegerField(
                        default=50,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(100000),
                        ],
                    ),
                ),
                (
                    "max_bytes",
                    models.PositiveBigIntegerField(
                        default=1048576,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(1073741824),
                        ],
                    ),
                ),
                (
                    "request_timeout",
                    models.PositiveIntegerField(
                        default=300,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3300),
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "verbose_name": "model",
                "ordering": ["name"],
            },
        ),
        migrations.AddField(
            model_name="batch",
            name="demands",
            field=models.JSONField(default=list),
        ),
        migrations.AddField(
            model_name="workspace",
            name="changing_attempt",
            field=models.PositiveIntegerField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="workspace",
            name="changing_task",
            field=models.UUIDField(editable=False, null=True),
        ),
        migrations.AddConstraint(
            model_name="workspace",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("changing_attempt__isnull", True), ("changing_task__isnull", True)),
                    models.Q(("changing_attempt__isnull", False), ("changing_task__isnull", False)),
                    _connector="OR",
                ),
                name="workspace_changed_by_an_attempt",
            ),
        ),
        migrations.AddField(
            model_name="decision",
            name="applying",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="applies",
                to="batches.task",
            ),
        ),
        migrations.AddField(
            model_name="decision",
            name="by",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="decisions",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="decision",
            name="task",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.CASCADE,
                related_name="decision",
                to="batches.task",
            ),
        ),
        migrations.AddConstraint(
            model_name="modelprofile",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("parallel__isnull", True), ("parallel__gte", 1), _connector="OR"
                ),
                name="modelprofile_parallel_at_least_one",
            ),
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
