"""The transport that keeps its client, against a Redis server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kombu import Connection, Queue

from batches.backends import brokers
from tests.brokers import Redis

pytestmark = pytest.mark.either


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def broker(redis: Redis) -> Iterator[Connection]:
    with Connection(redis.url, transport=brokers.transport(redis.url)) as connection:
        yield connection


def test_commands_share_a_client_until_the_connections_are_dropped(broker: Connection):
    channel = broker.default_channel
    with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
        assert first is second
    channel._disconnect_pools()  # as kombu does after a fork
    with channel.conn_or_acquire() as other:
        assert other is not first
        assert other.ping()
    assert channel.client is not other, "the one that waits for messages keeps a connection"


def test_messages_come_as_they_were_sent(broker: Connection):
    queue = Queue("q")(broker.default_channel)
    queue.declare()
    producer = broker.Producer()
    with producer.batch():
        for number in range(5):
            producer.publish({"n": number}, routing_key="q")
    seen = []
    while message := queue.get():
        seen.append(message.payload["n"])
        message.ack()
    assert seen == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "url", ["rediss://h:1/0", "sentinel://h:1", "amqp://h", "redis://a:1/0;redis://b:1/0", ""]
)
def test_elsewhere_kombus_own_is_used(url: str):
    assert brokers.transport(url) is None
