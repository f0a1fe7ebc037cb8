"""Fields, constraints and indexes."""

from batches.models.batch import Batch, Share
from batches.models.evidence import Artefact, LogLine
from batches.models.fleet import Chore, Queue, Resource, Start, Worker, Workspace
from batches.models.keys import SubmissionKey
from batches.models.profiles import ModelProfile
from batches.models.review import Decision
from batches.models.servers import McpServer
from batches.models.task import Attempt, Dependency, Task

__all__ = [
    "Artefact",
    "Attempt",
    "Batch",
    "Chore",
    "Decision",
    "Dependency",
    "LogLine",
    "McpServer",
    "ModelProfile",
    "Queue",
    "Resource",
    "Share",
    "Start",
    "SubmissionKey",
    "Task",
    "Worker",
    "Workspace",
]
