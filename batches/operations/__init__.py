"""The one door for what users ask: the API, the admin and the commands all come through here.

``by`` is who asks and how they came in: it is written to the row's history with the change.
"""

from batches.idempotency import KeyReused
from batches.operations.batches import (
    cancel_batch,
    cancel_task,
    change_batch,
    change_task,
    move_batch,
    pause_batch,
    resume_batch,
    retry_batch,
    retry_task,
)
from batches.operations.fleet import (
    add_mcp_server,
    add_model,
    add_workspace,
    change_mcp_server,
    change_model,
    change_queue,
    change_workspace,
    remove_mcp_server,
    remove_model,
    remove_workspace,
)
from batches.operations.given import UNSET
from batches.operations.patches import (
    apply_patch,
    discard_patch,
    keep_patch,
)
from batches.operations.submitting import (
    submit,
    submit_once,
)
from batches.operations.tokens import (
    make_token,
    revoke_token,
)
from batches.queue.wishes import Conflict

__all__ = [
    "UNSET",
    "Conflict",
    "KeyReused",
    "add_mcp_server",
    "add_model",
    "add_workspace",
    "apply_patch",
    "cancel_batch",
    "cancel_task",
    "change_batch",
    "change_mcp_server",
    "change_model",
    "change_queue",
    "change_task",
    "change_workspace",
    "discard_patch",
    "keep_patch",
    "make_token",
    "move_batch",
    "pause_batch",
    "remove_mcp_server",
    "remove_model",
    "remove_workspace",
    "resume_batch",
    "retry_batch",
    "retry_task",
    "revoke_token",
    "submit",
    "submit_once",
]
