"""The Celery worker: a task for each kind, and what its main process does beside.

A message names a row. The row says whether it may run; Celery's own state, results and limits
follow from what the row says, never the other way round.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

from billiard.exceptions import SoftTimeLimitExceeded, Terminated
from billiard.util import get_pdeathsig
from celery import Task, bootsteps, signals
from celery.exceptions import Ignore, Retry
from celery.utils.functional import maybe_list
from celery.worker import control, state
from django.conf import settings
from django.core import checks
from django.db import Error as DatabaseError
from django.db import connection
from django.utils.module_loading import import_string

from batches import identity, registry
from batches.checks import WORKER
from batches.consumers.celery_tasks import (
    cleanup_old_results,
    dispatch_batch,
    get_group_status,
    get_task_status,
    group_task_name,
)
from batches.consumers.dispatcher import LOOK_EVERY, Dispatcher
from batches.consumers.event_loop import attend
from batches.consumers.forking import mind_forks
from batches.consumers.pool_process import PoolProcess
from batches.consumers.presence import Presence
from batches.mirror import TaskFailed
from batches.states import BackendName, TaskState, WorkerState

logger = logging.getLogger(__name__)

CANCELLED = "cancelled"
app = import_string(settings.CELERY_APPLICATION)

_pool_process: PoolProcess | None = None
_dispatcher: Dispatcher | None = None
_ready = False
"""Processes of the pool that see it true came in place of others."""


# -- in the pool


class KindTask(Task):  # type: ignore[misc]
    """Runs one row: the argument is the id of a task of the console."""

    abstract = True
    throws = (TaskFailed, Terminated)

    def run(self, task_id: str) -> str:
        """``succeeded``; any other end is an exception, as Celery and Flower expect it."""
        pool = _of_this_process()
        try:
            ended = pool.run(UUID(task_id), self.request.hostname)
        except SoftTimeLimitExceeded:
            pool.time_is_up()
            ended = pool.finish()
        except BaseException:
            _leave()
            raise
        if ended is None:
            raise Ignore
        match ended.state:
            case TaskState.SUCCEEDED:
                return "succeeded"
            case TaskState.CANCELLED:
                raise Terminated(CANCELLED)
            case TaskState.QUEUED:
                # Nothing is published: when its turn comes again is in the row.
                raise Retry(ended.error or "handed back", TaskFailed("again", ended.error))
        raise TaskFailed(ended.failure, ended.error)


for kind in registry.kinds().values():
    app.register_task(type(kind.task, (KindTask,), {"name": kind.task, "__module__": __name__})())


def _plain_task(name: str, work: Callable[..., Any]) -> None:
    """A task that is no row: its result is Celery's own affair."""

    def run(*arguments: Any) -> Any:
        connection.close()  # it may have broken since the last one, and nobody tries again
        return work(*arguments)

    parts = {"name": name, "run": staticmethod(run), "ignore_result": False}
    app.register_task(type(name, (Task,), {**parts, "__module__": __name__})())


for kind in registry.offered().values():
    _plain_task(group_task_name(kind), partial(dispatch_batch, kind.name))
_plain_task("get_task_status", get_task_status)
_plain_task("get_group_status", get_group_status)
_plain_task("cleanup_old_results", lambda: cleanup_old_results(app.backend))


def _of_this_process() -> PoolProcess:
    global _pool_process  # noqa: PLW0603 - one for each process of the pool
    if _pool_process is None:
        _pool_process = PoolProcess(identity.worker, first=not _ready)
    return _pool_process


def _prepare(**_: Any) -> None:
    """Start the slot at once: the first message would have to wait for it."""
    _of_this_process()


def _leave(**_: Any) -> None:
    global _pool_process  # noqa: PLW0603
    if _pool_process is not None:
        _pool_process.close()
        _pool_process = None


# -- in the main process


class Console(bootsteps.StartStopStep):  # type: ignore[misc]
    """Takes its place among the workers, and dispatches, from the first connection on."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, parent: Any) -> None:
        """At each connection to the broker."""
        attend(parent)
        if _dispatcher is not None:
            _dispatcher.reconnected()

    def shutdown(self, parent: Any) -> None:
        """It takes no more messages, for whatever reason."""
        if parent.event_dispatcher is not None:
            parent.event_dispatcher.flush()
        _drain()


app.steps["consumer"].add(Console)


def _check() -> None:
    """What ``manage.py worker`` checks too."""
    found = checks.run_checks(tags=[WORKER])
    for message in found:
        logger.log(message.level, "%s", message)
    if any(message.is_serious() for message in found):
        raise SystemExit(" ".join(str(message) for message in found if message.is_serious()))


def _announce(sender: Any, **_: Any) -> None:
    """Before the pool is forked: its processes claim in the worker's name.

    Celery only logs what its signals raise, and would go on without a dispatcher.
    """
    global _dispatcher  # noqa: PLW0603
    # Each process of the pool sets the signal, with a C parser that takes ten times as long to
    # import as to use: it is imported once, and here.
    with suppress(OSError):
        get_pdeathsig()
    # What is here now stays: a process of the pool that looked it over for garbage would copy it.
    gc.collect()
    gc.freeze()
    mind_forks()
    _check()
    if sender.pool_cls.__module__ != "celery.concurrency.prefork":
        raise SystemExit("Tasks are killed with their process: the pool must be --pool=prefork.")
    try:
        _dispatcher = Dispatcher(
            _presence(sender),
            running=lambda: len(state.active_requests),
            taken=lambda: sum(state.total_count.values()),
            served=partial(_served, sender),
        )
    except Exception as error:
        logger.exception("the worker cannot take its place among the others")
        raise SystemExit(1) from error


def _presence(worker: Any) -> Presence:
    """Its row, as soon as the database is there."""
    queues, slots = _served(worker)
    kinds = registry.kinds()
    while True:
        try:
            return Presence.announce(
                queues,
                kinds,
                slots,
                BackendName.CELERY,
                WorkerState.STARTING,
                node=worker.hostname,
            )
        except DatabaseError as error:
            logger.error("the database failed, trying again: %s", error)  # noqa: TRY400
            connection.close()
            time.sleep(LOOK_EVERY)


def _served(worker: Any) -> tuple[list[str], int]:
    """The queues that it reads and the size of its pool now: ``celery control`` changes both."""
    pool = getattr(worker, "pool", None)
    slots = pool.num_processes if pool is not None else worker.concurrency
    # Those of a benchmark have another name at the broker.
    served = worker.app.amqp.queues.consume_from.values()
    return [queue.alias or queue.name for queue in served], slots


def _start(**_: Any) -> None:
    global _ready  # noqa: PLW0603
    _ready = True
    if _dispatcher is not None:
        _dispatcher.start()


def _drain(**_: Any) -> None:
    if _dispatcher is not None:
        _dispatcher.drain()


def _stop(**_: Any) -> None:
    if _dispatcher is not None:
        _dispatcher.stop()


@control.control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def revoke(state: Any, task_id: Any, **how: Any) -> Any:
    """Celery's own, which every worker hears, and which spares what it does not know and, but for
    ``terminate``, what runs. Here a revoke is a cancel, wherever the task is."""
    if _dispatcher is not None:
        for one in maybe_list(task_id) or ():
            with suppress(ValueError):
                _dispatcher.revoked(UUID(one))
    return control.revoke(state, task_id, **how)


def _revoked(request: Any, signum: Any, **_: Any) -> None:
    """Somebody revoked it in Flower or with ``celery control``: that is a cancel.

    Also called for what was cancelled here. In the event loop, so that nothing may take long.
    """
    if _dispatcher is not None and signum != CANCELLED:
        _dispatcher.revoked(UUID(request.id))


for signal, receiver in (
    (signals.worker_process_init, _prepare),
    (signals.worker_process_shutdown, _leave),
    (signals.worker_init, _announce),
    (signals.worker_ready, _start),
    (signals.worker_shutting_down, _drain),
    (signals.worker_shutdown, _stop),
    (signals.task_revoked, _revoked),
):
    signal.connect(receiver, weak=False)
