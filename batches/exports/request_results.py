"""The results of a batch in the shape of OpenAI's batch files, for what reads those.

Source of the shape: https://platform.openai.com/docs/api-reference/batch/request-output
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from rest_framework.utils.encoders import JSONEncoder

from agents.contract import JSON
from batches.exports.selection import Row, Selection
from batches.states import FINISHED, TaskState

PAGE = 500


def request_results(chosen: Selection) -> Iterator[str]:
    """A line for each finished task."""
    encode = JSONEncoder().encode
    for page in chosen.pages(PAGE, "id", "custom_id", "state", "failure", "result", "error"):
        for row in page:
            if row["state"] in FINISHED:
                yield encode(_told(row)) + "\n"


def _told(row: Row) -> JSON:
    """A task that ran to a no has a response beside the error: what it found is in its body."""
    succeeded = row["state"] == TaskState.SUCCEEDED
    response = error = None
    if succeeded or row["result"] is not None:
        status = HTTPStatus.OK if succeeded else HTTPStatus.UNPROCESSABLE_ENTITY
        response = {
            "status_code": int(status),
            "request_id": row["id"],
            "body": row["result"],
        }
    if not succeeded:
        error = {"code": row["failure"] or row["state"], "message": row["error"]}
    told = {"id": row["id"], "custom_id": row["custom_id"], "response": response, "error": error}
    return told | ({"variant": row["variant"]} if row["variant"] else {})
