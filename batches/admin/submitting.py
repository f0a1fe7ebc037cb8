"""The form that submits a batch: pasted items or an uploaded file, read as the REST call reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django import forms
from django.contrib.auth.models import User
from rest_framework.exceptions import ParseError

from agents.contract import JSON
from batches import registry
from batches.admin.skin import Textarea, TextInput
from batches.api.parsing import object_in, value_in
from batches.api.reading import BY_LINES, understood, understood_by_lines
from batches.api.submissions import options_of
from batches.models import Queue, Workspace
from batches.states import OnFailure
from batches.submission import FieldError, InvalidSubmission, Submission

PLAIN = (
    "name", "workspace", "priority", "queue", "parallel", "timeout", "max_attempts", "on_failure",
    "run_at", "deadline",
)  # fmt: skip
"""Fields that go into the body as they are, where they are filled in."""


MOMENT = forms.TextInput(attrs={"type": "datetime-local"})


class Uploaded(io.RawIOBase):
    """An uploaded file as a stream; Django closes the file with its request, and nobody else."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data: bytes = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class SubmitForm(forms.Form):
    """What is left empty is as usual, or as the uploaded file says."""

    kind = forms.ChoiceField(
        required=False, help_text="What each task is. A file may name it instead."
    )
    workspace = forms.ChoiceField(required=False, help_text="The folder that the tasks work in.")
    name = forms.CharField(
        required=False, max_length=200, widget=TextInput, help_text="Shown in lists."
    )
    items = forms.CharField(
        required=False,
        widget=Textarea(attrs={"rows": 10, "spellcheck": "false"}),
        help_text="One path a line; or one JSON object a line; or a JSON array of objects.",
    )
    file = forms.FileField(
        required=False,
        label="Or a file",
        help_text="The JSON body of the REST call, or JSON Lines (.jsonl): options first, then an "
        "item a line.",
    )
    options = forms.CharField(
        required=False,
        widget=Textarea(attrs={"rows": 3, "spellcheck": "false"}),
    )
    priority = forms.IntegerField(required=False, help_text="0 to 10, higher first.")
    queue = forms.ChoiceField(required=False)
    parallel = forms.IntegerField(required=False, help_text="Most tasks that run at once.")
    timeout = forms.IntegerField(required=False, help_text="Seconds for one attempt.")
    max_attempts = forms.IntegerField(
        required=False, help_text="Attempts that may fail before the task has failed."
    )
    on_failure = forms.ChoiceField(
        required=False, choices=[("", "as usual"), *OnFailure.choices], label="On failure"
    )
    run_at = forms.CharField(
        required=False, label="Not before", widget=MOMENT, help_text="UTC. No task starts earlier."
    )
    deadline = forms.CharField(
        required=False, widget=MOMENT, help_text="UTC. What has not finished by then fails."
    )
    labels = forms.CharField(
        required=False, widget=TextInput, help_text="Separated by commas, to find it again."
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        visible = Workspace.objects.visible_to(user).values_list("name", flat=True)
        queues = Queue.objects.values_list("pk", flat=True)
        for field, names, nothing in (
            ("kind", sorted(registry.offered()), "as the file says"),
            ("workspace", visible[:1000], "none"),
            ("queue", queues, "the kind's"),
        ):
            choice: Any = self.fields[field]
            choice.choices = [("", nothing), *((name, name) for name in names)]
        self.fields["options"].help_text = options_help()

    @contextmanager
    def wanted(self) -> Iterator[Submission]:
        """What the valid form asks for; while the block runs, a file of JSON Lines is read.

        Raises:
            InvalidSubmission: names each wrong item and field; from the block too.
        """
        data = self.cleaned_data
        more = {name: data[name] for name in PLAIN if data[name] not in {None, ""}}
        if labels := [label.strip() for label in data["labels"].split(",") if label.strip()]:
            more["labels"] = labels
        more |= _object(data["options"], "options")
        kind, file = data["kind"] or None, data["file"]
        if file is None:
            yield understood(more | self._pasted(), kind)
        elif data["items"].strip():
            raise InvalidSubmission(
                [FieldError("items", "Paste items or upload a file, not both.")]
            )
        elif Path(file.name).suffix in BY_LINES:
            with understood_by_lines(Uploaded(file), kind, more) as submission:
                yield submission
        else:
            yield understood(_object(file.read(), "file") | more, kind)

    def _pasted(self) -> JSON:
        kind = registry.offered().get(self.cleaned_data["kind"])
        if kind is None:
            raise InvalidSubmission([FieldError("kind", "Choose one.")])
        return {kind.items: pasted(self.cleaned_data["items"], kind.items)}


def options_help() -> str:
    """What ``options`` takes: the fields that a kind adds to the body, kind by kind."""
    kinds = (
        f"{name} takes {' and '.join(options)}"
        for name in sorted(registry.offered())
        if (options := options_of(name))
    )
    return (
        'More fields of the body as a JSON object, such as {"after": ["ID of a batch"]}'
        + "".join(f"; {kind}" for kind in kinds)
        + "."
    )


def pasted(text: str, field: str) -> list[Any]:
    """Items out of a text: a JSON array, an object a line, or a path a line.

    Raises:
        InvalidSubmission: names the lines that are no JSON.
    """
    text = text.strip()
    if text.startswith("["):
        try:
            listed: list[Any] = value_in(text.encode("utf-8", "surrogatepass"), "text")
        except ParseError as wrong:
            raise InvalidSubmission([FieldError(field, str(wrong.detail))]) from None
        return listed
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not text.startswith("{"):
        return [{"path": line} for line in lines]
    items, errors = [], []
    for number, line in enumerate(lines):
        try:
            items.append(object_in(line.encode(), "line"))
        except ParseError as wrong:
            errors.append(FieldError(f"{field}[{number}]", str(wrong.detail)))
    if errors:
        raise InvalidSubmission(errors[:100])
    return items


def _object(text: str | bytes, field: str) -> JSON:
    if not text.strip():
        return {}
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    try:
        return object_in(data, "text")
    except ParseError as wrong:
        raise InvalidSubmission([FieldError(field, str(wrong.detail))]) from None
