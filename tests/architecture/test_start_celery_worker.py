"""The start script of Celery workers refuses what is wrong, in one sentence, before it installs."""

import os
import pty
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/start_celery_worker.sh"
BROKER = "redis://:hunter2@127.0.0.1:1/0"
PRIORITIES = import_module("batches.migrations.0002_queues_groups_and_tuning").QUEUES


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        cwd="/",
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "CELERY_BROKER_URL is not set: no broker, no Celery worker."),
        ({"CONCURRENCY": "0"}, "CONCURRENCY='0' is not a whole number from 1 to 1024."),
        ({"CONCURRENCY": "1025"}, "CONCURRENCY='1025' is not"),
        ({"CONCURRENCY": "08"}, "CONCURRENCY='08' is not"),
        ({"CONCURRENCY": "a[$(touch /tmp/x)]"}, "CONCURRENCY='a[$(touch /tmp/x)]' is not"),
        ({"QUEUES": "tests,celery"}, "QUEUES has 'celery', which is not among high_priority,"),
        ({"QUEUES": "*"}, "QUEUES has '*', which is not among"),
        ({"QUEUES": " , "}, "QUEUES=' , ' names no queue."),
        ({"NAME": "a b"}, "NAME='a b' may have letters, digits, dots, dashes and underscores"),
        ({"NAME": "-x"}, "NAME='-x' may have"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='LOUD' is not one of DEBUG, INFO, WARNING, ERROR."),
    ],
)
def test_a_wrong_value_is_refused_by_name(environment, sentence):
    refused = start(**({"CELERY_BROKER_URL": BROKER} if environment else {}), **environment)

    assert refused.returncode == 78
    assert refused.stderr.startswith(sentence)
    assert refused.stderr.count("\n") == 1
    assert "hunter2" not in refused.stderr


@pytest.mark.parametrize("arguments", [["--chek"], ["--check", "--check"]])
def test_an_unknown_argument_is_refused(arguments):
    refused = start(*arguments, CELERY_BROKER_URL=BROKER)

    assert refused.returncode == 78
    assert "see --help" in refused.stderr


def test_the_help_and_the_guide_have_every_variable():
    code = re.sub(r"<<'(\w+)'\n.*?\n\1\n", "", SCRIPT.read_text(encoding="utf-8"), flags=re.DOTALL)
    guide = (ROOT / "deploy/README.md").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\{([A-Z_]+):-", code)) - {"TERM"}

    assert {"CONCURRENCY", "QUEUES", "NAME"} < read
    told = start("--help").stdout
    for name in read - {"DJANGO_SETTINGS_MODULE"}:
        assert re.search(rf"\b{name}\b", told), name
        assert re.search(rf"`{name}\b", guide), name


def test_its_queues_are_all_of_ours_and_the_most_urgent_come_first():
    (named,) = re.findall(r"^readonly ALL=(.*)$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    order = [PRIORITIES[queue] for queue in named.split(",")]

    assert sorted(named.split(",")) == sorted(PRIORITIES)
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_are_for_terminals_that_want_them(environment, coloured):
    ours, theirs = pty.openpty()
    subprocess.run(
        [SCRIPT],
        env={"PATH": os.environ["PATH"], "TERM": "xterm", **environment},
        stderr=theirs,
        check=False,
    )
    os.close(theirs)
    said = os.read(ours, 4096)
    os.close(ours)

    assert b"CELERY_BROKER_URL is not set" in said
    assert (b"\x1b[31m" in said) == coloured
