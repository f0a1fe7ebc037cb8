"""The order of all tests, and how several processes share them out."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.brokers import RabbitMQ

TOGETHER = frozenset(
    {
        "tests/agents/test_mcp_operation.py",
        "tests/batches/test_claim_plans.py",
        "tests/browser/test_pages.py",
        "tests/processes/test_mcp_batches.py",
        "tests/processes/test_real_batches.py",
        "tests/processes/test_up_running.py",
    }
)
"""Modules whose tests share something costly: each is run by one process."""
TURNS = (
    "test_everything_fails.py",
    "test_order.py",
    "test_benchmark.py",
    "test_sqs.py",
    "test_brokers.py",
    "test_celery.py",
    "test_rules.py",
    "test_lost_workers.py",
    "test_outcomes.py",
    "test_workers.py",
)
"""The modules of conformance, and what else has workers of Celery: first the single tests, behind
which a process has to be given something else at once, then those that take longest for one
backend."""

RABBITMQ_NODES = 2
"""Enough for their tests to end with the others."""


def pytest_configure() -> None:
    # A shell's background job ignores it, and so would each ``up`` that a test ends by it.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what was collected stays: it need not be looked over for garbage again


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Random, as it was made, but with the long ones first: several processes share them out.

    Those of one backend stay together: its broker and its worker are started once.
    """
    items.sort(
        key=lambda item: (
            item.get_closest_marker("long") is None and not _backend(item.nodeid),
            _turn(item.nodeid),
            _backend(item.nodeid),
        )
    )


def _turn(nodeid: str) -> int:
    """When a module has its turn, among the long ones."""
    name = nodeid.partition("::")[0].rpartition("/")[2]
    return TURNS.index(name) if name in TURNS else len(TURNS)


def _backend(nodeid: str) -> str:
    """The backend that a test of conformance runs on; empty for any other test."""
    if not nodeid.startswith("tests/conformance/"):
        return ""
    return f"{nodeid.partition('::')[0]}::[{nodeid.rpartition('[')[2]}"


class Scheduling(LoadScopeScheduling):
    """Test by test to whoever is free, but some modules as a whole.

    Not by pytest-xdist's own groups: of those 3.8 knows nothing under pytest 9.2.
    """

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        self._with_rabbitmq: set[WorkerController] = set()

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return _backend(nodeid) or (module if module in TOGETHER else nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        """Not before it is needed: what waits behind a long test could be run by others.

        A test is begun when the one after it is known, so that one more is needed then.
        """
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)

    def _assign_work_unit(self, node: WorkerController) -> None:
        """A node of RabbitMQ takes long to start: who has one is given what needs one and has its
        turn, and others are given something else, where there is anything."""
        has = node in self._with_rabbitmq
        if has or len(self._with_rabbitmq) >= RABBITMQ_NODES:
            turn = _turn(next(iter(self.workqueue))) if has else len(TURNS)
            chosen = next(
                (
                    one
                    for one in self.workqueue
                    if _needs_rabbitmq(one) == has and _turn(one) <= turn
                ),
                None,
            )
            if chosen is not None:
                self.workqueue.move_to_end(chosen, last=False)
        if _needs_rabbitmq(next(iter(self.workqueue))):
            self._with_rabbitmq.add(node)
        super()._assign_work_unit(node)


def _needs_rabbitmq(scope: str) -> bool:
    return scope.endswith(("[rabbitmq]", "_on_rabbitmq"))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """One node for all modules: seconds of a processor each time that one is started."""
    node = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        yield node
    finally:
        node.kill()
