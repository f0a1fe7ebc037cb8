"""Language models that agents work with: where each is, and what a task may ask of it."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from batches.models.batch import new_id
from batches.states import ModelProtocol

MODEL_NAME = RegexValidator(
    r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*\Z",
    "Use letters, digits, dots, dashes, underscores, colons and slashes, as Ollama does.",
)


def _at_least_one(most: int) -> list[MinValueValidator | MaxValueValidator]:
    return [MinValueValidator(1), MaxValueValidator(most)]


class ModelProfile(models.Model):
    """How a model is reached that tasks name, such as ``qwen2.5-coder:7b``.

    A name without a profile is a model of that name on the server of ``OLLAMA_BASE_URL``.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100, unique=True, validators=[MODEL_NAME])
    protocol = models.CharField(max_length=6, choices=ModelProtocol, default=ModelProtocol.OLLAMA)
    endpoint = models.CharField(max_length=2000, default="", blank=True)
    """Root address without ``/v1``; empty: ``OLLAMA_BASE_URL``."""
    model = models.CharField(max_length=200, default="", blank=True)
    """Its name on that server; empty: the profile's."""
    num_ctx = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(256), MaxValueValidator(10_000_000)]
    )
    """Tokens of context that Ollama loads it with; null: 16,384."""
    temperature = models.FloatField(
        null=True, blank=True, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)]
    )
    keep_alive = models.CharField(max_length=20, default="", blank=True)
    """How long Ollama keeps it loaded, such as ``10m``; empty: as it is set up there."""
    secret = models.CharField(max_length=1000, default="", blank=True)
    """Where workers find the API key, ``env:NAME`` or ``file:/PATH``: it is never stored."""
    parallel = models.PositiveIntegerField(null=True, blank=True, validators=_at_least_one(10_000))
    """Most tasks that use it running at once over all workers; null: no limit."""
    max_requests = models.PositiveIntegerField(default=60, validators=_at_least_one(100_000))
    max_tool_calls = models.PositiveIntegerField(default=300, validators=_at_least_one(1_000_000))
    max_tokens = models.PositiveBigIntegerField(
        default=400_000, validators=_at_least_one(1_000_000_000)
    )
    """In and out, of one task, as ``max_requests`` and ``max_tool_calls`` are."""
    max_files = models.PositiveIntegerField(default=50, validators=_at_least_one(100_000))
    """Files that one task may change."""
    max_bytes = models.PositiveBigIntegerField(
        default=1024 * 1024, validators=_at_least_one(1024 * 1024 * 1024)
    )
    """Bytes that one task may write."""
    request_timeout = models.PositiveIntegerField(default=300, validators=_at_least_one(3300))
    """Seconds for one answer."""
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        verbose_name = "model"
        constraints = [
            models.CheckConstraint(
                condition=Q(parallel__isnull=True) | Q(parallel__gte=1),
                name="modelprofile_parallel_at_least_one",
            )
        ]

    def __str__(self) -> str:
        return self.name
