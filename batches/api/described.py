"""What the OpenAPI document says of each call that its view cannot: a summary, and the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from rest_framework import serializers

from batches.api import keys
from batches.api.answers import BatchAnswer, LogLineAnswer, TaskAnswer
from batches.api.compared import Compared, ComparedItem
from batches.api.fleet import QueueAnswer, WorkspaceAnswer
from batches.api.on_celery import CeleryGroupAnswer, CeleryTaskAnswer, GroupStarted
from batches.api.profiles import ModelCheckAnswer, ProfileAnswer
from batches.api.servers import CheckAnswer, ServerAnswer
from batches.api.stats import WorkerAnswer
from batches.states import Failure, TaskState

Answer = type[serializers.BaseSerializer[Any]] | dict[str, Any] | None
"""A serializer, a schema as it stands, or no body at all."""


@dataclass(frozen=True, slots=True)
class Call:
    summary: str
    answer: Answer
    status: int = 200
    many: bool = False
    """The answer is a page of them."""
    paged: bool = False
    """The answer holds a page, beside other things."""
    asks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Header of the request → its description and schema."""
    tells: dict[str, str] = field(default_factory=dict)
    """Header of the answer → what it says."""
    media_type: str = ""
    """Of the answer, where the renderer does not say it."""
    problems: dict[int, str] = field(default_factory=dict)
    """Status → when it is answered, beside those that its like can all answer."""


class Alive(serializers.Serializer[Any]):
    status = serializers.ChoiceField(["live"])


class IsReady(serializers.Serializer[Any]):
    status = serializers.ChoiceField(["ready"])


class Retried(serializers.Serializer[Any]):
    retried = serializers.IntegerField(help_text="How many tasks were queued again.")
    batch = BatchAnswer()


class AllQueues(serializers.Serializer[Any]):
    results = QueueAnswer(many=True)


class ResultLine(serializers.Serializer[Any]):
    """The columns of ``exports.tabular.FIELDS``."""

    position = serializers.IntegerField()
    custom_id = serializers.CharField()
    variant = serializers.CharField(allow_blank=True)
    id = serializers.UUIDField()
    state = serializers.ChoiceField(TaskState.choices)
    failure = serializers.ChoiceField(Failure.choices, allow_blank=True)
    attempt = serializers.IntegerField()
    result = serializers.JSONField()
    error = serializers.CharField(allow_blank=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class PerState(serializers.DictField):
    child = serializers.IntegerField()


class PerName(serializers.DictField):
    child = PerState()


class Totals(serializers.Serializer[Any]):
    state = PerState()
    kind = PerName()
    queue = PerName()


class Minute(serializers.Serializer[Any]):
    minute = serializers.DateTimeField()
    succeeded = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()


class Percentiles(serializers.Serializer[Any]):
    p50 = serializers.FloatField()
    p90 = serializers.FloatField()
    p99 = serializers.FloatField()


class Times(serializers.Serializer[Any]):
    sample = serializers.IntegerField(help_text="Newest finished tasks looked at.")
    wait = Percentiles(allow_null=True, help_text="Seconds from the submission to the last start.")
    run = Percentiles(allow_null=True, help_text="Seconds.")


class Figures(serializers.Serializer[Any]):
    totals = Totals()
    throughput = Minute(many=True, help_text="Finished tasks by minute, of the last hour.")
    times = Times()
    workers = WorkerAnswer(many=True)
    queues = QueueAnswer(many=True)


LOCATION = {"Location": "Address of what was made."}
KEY = {
    keys.HEADER: {
        "description": "For a day, the same body under the same key is the same batch.",
        "schema": {"type": "string", "pattern": f"^{keys.VISIBLE.pattern}$"},
    }
}
REPLAYED = {keys.REPLAYED: "`true` where the batch was there already."}
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FINISHED_TASK = "The task is finished."
NO_PATCH = "There is no patch to decide on, or it was decided already."
FINISHED_BATCH = "The batch is finished, is still being submitted, or is being deleted."

CALLS: dict[str, Call] = {
    "Live.get": Call("Does this process answer?", Alive),
    "Ready.get": Call(
        "Does work get done?", IsReady,
        problems={503: "It does not, for the reasons given, or the database did not answer."},
    ),
    "Metrics.get": Call(
        "Figures for Prometheus", {"type": "string"}, media_type=CONTENT_TYPE_PLAIN_0_0_4
    ),
    "Document.get": Call("This document", {"type": "object"}),
    "Docs.get": Call("This document as a page", {"type": "string"}),
    "Stats.get": Call("Totals, throughput, times, workers and queues", Figures),
    "Submissions.post": Call(
        "Submit a batch: {kind}", BatchAnswer, 202,
        asks=KEY, tells=LOCATION | REPLAYED,
        problems={
            409: "A submission with this key is in progress.",
            422: "The key was used for another body.",
        },
    ),
    "CelerySubmissions.post": Call(
        "Submit a batch to Celery: {kind}", GroupStarted, 202,
        asks=KEY, tells=LOCATION | REPLAYED,
        problems={
            409: "A submission with this key is in progress.",
            422: "The key was used for another body.",
            503: "No broker is configured, or the database did not answer.",
        },
    ),
    "CeleryTask.get": Call("One task in Celery's words", CeleryTaskAnswer),
    "CeleryGroup.get": Call(
        "One batch in Celery's words, with its tasks in submission order", CeleryGroupAnswer,
        paged=True,
    ),
    "Batches.list": Call("Batches, newest first", BatchAnswer, many=True),
    "Batches.retrieve": Call("One batch and its progress", BatchAnswer),
    "Batches.partial_update": Call(
        "Change a batch, pause it, resume it", BatchAnswer, problems={409: FINISHED_BATCH}
    ),
    "Batches.destroy": Call("Cancel a batch", BatchAnswer, 202, problems={409: FINISHED_BATCH}),
    "Batches.retry": Call(
        "Queue the failed tasks of a batch again", Retried, 202,
        problems={409: "The batch is being cancelled, submitted or deleted."},
    ),
    "Batches.tasks": Call("Tasks of a batch in submission order", TaskAnswer, many=True),
    "Batches.results": Call("Results of a batch in submission order, streamed", ResultLine),
    "Batches.comparison": Call("Figures of each variant of a batch", Compared),
    "Batches.comparison_items": Call(
        "Which variants passed each item of a batch", ComparedItem, many=True
    ),
    "Batches.sarif": Call(
        "Findings of a validation batch as SARIF 2.1.0, streamed",
        {"type": "object", "externalDocs": {"url": SARIF_SCHEMA}},
        problems={409: "The batch is of a kind that has no findings."},
    ),
    "Batches.junit": Call(
        "Results of a test batch as JUnit XML, streamed", {"type": "string"},
        problems={409: "The batch is of a kind that runs no tests."},
    ),
    "Tasks.list": Call("Tasks of all batches, newest first", TaskAnswer, many=True),
    "Tasks.retrieve": Call("One task with its attempts, result and files", TaskAnswer),
    "Tasks.partial_update": Call(
        "Change a task's priority", TaskAnswer, problems={409: FINISHED_TASK}
    ),
    "Tasks.retry": Call(
        "Queue a task again", TaskAnswer, 202,
        problems={409: "It neither failed nor was cancelled, or its batch is being cancelled."},
    ),
    "Tasks.cancel": Call("Cancel a task", TaskAnswer, 202, problems={409: FINISHED_TASK}),
    "Tasks.apply": Call(
        "Put the patch that a task left into its workspace", TaskAnswer, 202,
        tells={"Location": "Address of the batch that does it."}, problems={409: NO_PATCH},
    ),
    "Tasks.keep": Call(
        "Keep a task's patch, and no other variant's", TaskAnswer, 202, problems={409: NO_PATCH}
    ),
    "Tasks.discard": Call(
        "Decide that the patch that a task left is not wanted", TaskAnswer,
        problems={409: NO_PATCH},
    ),
    "Tasks.log": Call("Log of a task, oldest line first", LogLineAnswer, many=True),
    "Tasks.transcript": Call("What an agent and its models said", LogLineAnswer, many=True),
    "Tasks.artefact": Call(
        "A file that a task left", {"type": "string", "contentMediaType": "*/*"}
    ),
    "Queues.list": Call("All queues, and how deep they are", AllQueues),
    "Queues.retrieve": Call("One queue", QueueAnswer),
    "Queues.partial_update": Call("Change a queue, pause it, resume it", QueueAnswer),
    "Workspaces.list": Call("Workspaces by name", WorkspaceAnswer, many=True),
    "Workspaces.create": Call("Add a workspace", WorkspaceAnswer, 201, tells=LOCATION),
    "Workspaces.retrieve": Call("One workspace", WorkspaceAnswer),
    "Workspaces.partial_update": Call("Change a workspace", WorkspaceAnswer),
    "Workspaces.destroy": Call(
        "Remove a workspace; its folder stays", None, 204, problems={409: "Batches still name it."}
    ),
    "McpServers.list": Call("MCP servers by name", ServerAnswer, many=True),
    "McpServers.create": Call("Add an MCP server", ServerAnswer, 201, tells=LOCATION),
    "McpServers.retrieve": Call("One MCP server", ServerAnswer),
    "McpServers.partial_update": Call("Change an MCP server", ServerAnswer),
    "McpServers.destroy": Call(
        "Remove an MCP server; operations that still wait for it are rejected", None, 204
    ),
    "McpServers.check": Call("Can an MCP server be reached? Seconds, not minutes", CheckAnswer),
    "Models.list": Call("Models with a profile, by name", ProfileAnswer, many=True),
    "Models.create": Call("Say how a model is reached", ProfileAnswer, 201, tells=LOCATION),
    "Models.retrieve": Call("How one model is reached", ProfileAnswer),
    "Models.partial_update": Call(
        "Change how a model is reached, or what tasks may ask of it", ProfileAnswer
    ),
    "Models.destroy": Call(
        "Forget how a model is reached; its name is one of Ollama's again", None, 204
    ),
    "Models.check": Call("Has its server got the model? Seconds, not minutes", ModelCheckAnswer),
}  # fmt: skip
"""View and action (of a plain view: method) → the call."""

FIELDS: dict[str, str] = {
    "name": "Shown in lists; any text.",
    "backend": "What runs the batch; `auto` is the usual one of the installation.",
    "workspace": "Name of the workspace that the tasks work in.",
    "priority": "0 to 10, higher first; without one, the batch's or else the queue's.",
    "queue": "Another queue than the usual one of the kind.",
    "parallel": "Most tasks of this batch that run at once; null is no limit.",
    "max_attempts": "Attempts of a task that may fail by error, timeout or loss.",
    "timeout": "Seconds that one attempt may take.",
    "run_at": "Not before; ISO 8601, without an offset it is UTC.",
    "deadline": "What has not finished by then fails as `timeout`.",
    "after": "Batches that must complete first.",
    "labels": "Words to find the batch by.",
    "on_failure": "`stop` cancels what waits when a task fails.",
    "variants": "Runs each item once for each of these, to compare them: a name, values for "
    "options of the kind, and a queue where it is not the batch's.",
    "resume": "A finished batch: its successes, by id and variant, are not run again.",
    "id": "Unique in the batch, answered as `custom_id`; by default the item's position.",
    "depends_on": "Ids of items of this batch that must succeed first.",
    "description": "What the agent is to change, in words.",
    "coder_model": "The model that writes: a profile's name, or one of Ollama's.",
    "reviewer_model": "The model that reads the change; null leaves the review out.",
    "max_loops": "Times that the agent may try again after a red check or a refused review.",
    "apply_changes": "Put a patch that passed into the workspace; without it, it waits for review.",
    "path": "Of a file or folder, relative to the workspace.",
    "checks": "The built-in checks to run; by default all.",
    "check_command": "A command that takes the place of the checks.",
    "test_command": "The command that runs a module.",
    "type": "What is done: by default a tool is called. `read`, `write`, `list` and `command` are "
    "the built-in server's.",
    "server": "Name of an MCP server; `filesystem` is the built-in one.",
    "tool": "One of the server's tools.",
    "arguments": "The tool's arguments by name.",
    "uri": "Of a resource of the server.",
    "content": "The text to write.",
    "command": "A command that the console allows, run in the workspace.",
}
"""Field of a submission or of one of its items → what it means."""
