"""The servers of MCP operations, and who may see and change them."""

import batches.models.batch
import django.core.validators
from django.contrib.auth.management import create_permissions
from django.db import migrations, models

EVERYBODY = ["view_mcpserver"]
GROUPS = {
    "viewer": EVERYBODY,
    "operator": EVERYBODY,
    "admin": [*EVERYBODY, "add_mcpserver", "change_mcpserver", "delete_mcpserver"],
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
        ("batches", "0003_submission_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="McpServer",
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
                        max_length=64,
                        unique=True,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9._-]*\\Z",
                                "Use small letters, digits, dots, dashes, underscores.",
                            )
                        ],
                    ),
                ),
                (
                    "transport",
                    models.CharField(
                        choices=[
                            ("stdio", "Standard input and output"),
                            ("http", "Streamable HTTP"),
                        ],
                        max_length=5,
                    ),
                ),
                ("command", models.JSONField(blank=True, default=list)),
                ("url", models.CharField(blank=True, default="", max_length=2000)),
                ("variables", models.JSONField(blank=True, default=dict)),
                ("headers", models.JSONField(blank=True, default=dict)),
                ("secrets", models.JSONField(blank=True, default=dict)),
                ("folders", models.JSONField(blank=True, default=list)),
                ("network", models.BooleanField(default=False)),
                ("tools", models.JSONField(blank=True, default=None, null=True)),
                (
                    "timeout",
                    models.PositiveIntegerField(
                        default=60,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(3300),
                        ],
                    ),
                ),
                (
                    "connect_timeout",
                    models.PositiveIntegerField(
                        default=20,
                        validators=[
                            django.core.validators.MinValueValidator(1),
                            django.core.validators.MaxValueValidator(300),
                        ],
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                (
                    "groups",
                    models.ManyToManyField(blank=True, related_name="mcp_servers", to="auth.group"),
                ),
            ],
            options={
                "verbose_name": "MCP server",
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("transport", "stdio"), ("url", "")),
                            models.Q(
                                ("command", []),
                                ("transport", "http"),
                                models.Q(("url", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="mcpserver_command_or_url",
                    )
                ],
            },
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
