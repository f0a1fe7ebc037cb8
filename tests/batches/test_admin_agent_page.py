"""The page of an agent's task: what it said, what it would change, and what shows that it works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.test import Client
from django.utils import timezone

from batches.admin import patches, transcript
from batches.models import Artefact, Batch, Decision, LogLine, Task
from tests.batches.reviewed import PATCH, with_patch

# What a page shows does not depend on the database.
pytestmark = pytest.mark.sqlite_only

BAD = "<img src=x onerror=alert(1)>"
SHOWN = "&lt;img src=x onerror=alert(1)&gt;"
USED = {"requests": 3, "input_tokens": 1234, "output_tokens": 56, "tool_calls": 2}


def check(ok: bool, red: int) -> dict[str, Any]:
    return {
        "ok": ok, "reason": "", "exit_code": int(not ok), "seconds": 1.25, "output": BAD,
        "total": 14, "red": [], "red_total": red,
    }  # fmt: skip


RESULT: dict[str, Any] = {
    "ok": False,
    "ended": "reviewer_refused",
    "loops": 3,
    "summary": f"changed {BAD}",
    "validator_ok": True,
    "verdict": {"approve": False, "problems": [f"why {BAD}?"]},
    "blocked": 2,
    "base_commit": "c0ffee" * 6,
    "patch": {"artefact": "changes.patch", "sha256": "0" * 64, "bytes": 1, "files": []},
    "applied": "conflict",
    "conflicts": [{"path": f"{BAD}.py", "reason": "both changed it", "hunks": f"<<<<<<< {BAD}"}],
    "check": {
        "ok": True,
        "reason": "",
        "command": ["pytest", "-q"],
        "before": check(ok=False, red=3),
        "after": check(ok=True, red=0),
        "cases": {
            "unchanged": 11,
            "fixed": [f"t.py::{BAD}"], "fixed_total": 1,
            "broken": [], "broken_total": 0, "still_red": [], "still_red_total": 0,
        },
        "edited": {"files": ["tests/t.py"], "check": check(ok=True, red=0)},
    },
    "findings": {
        "added": [
            {
                "ruleId": "F401", "level": "error", "message": {"text": f"unused {BAD}"},
                "locations": [
                    {
                        "physicalLocation": {
                            "artifactLocation": {"uri": "shop/a.py"}, "region": {"startLine": 3},
                        }
                    }
                ],
            }
        ],
        "removed": 4, "added_total": 1,
    },
    "usage": {"coder": USED, "reviewer": None},
    "models": {"coder": "qwen2.5-coder:7b", "reviewer": None},
    "transcript": "transcript.jsonl",
    "seconds": 61.0,
}  # fmt: skip


@pytest.fixture
def browser(admin: User) -> Client:
    User.objects.filter(pk=admin.pk).update(is_staff=True)
    browser = Client()
    browser.force_login(admin)
    return browser


@pytest.fixture
def task(admin: User, make_batch: Callable[..., Batch]) -> Iterator[Task]:
    made = make_batch(admin, 1).tasks.get()
    Task.objects.filter(pk=made.pk).update(kind="agent", attempt=1)
    yield Task.objects.get(pk=made.pk)
    for artefact in Artefact.objects.all():
        artefact.file.delete(save=False)


def page_of(browser: Client, task: Task, query: str = "") -> str:
    text: str = browser.get(f"/admin/batches/task/{task.pk}/change/{query}").text
    assert BAD not in text
    return text


def say(task: Task, event: str, attempt: int = 1, **fields: Any) -> LogLine:
    return LogLine.objects.create(
        task=task, attempt=attempt, at=timezone.now(), event=event, fields=fields
    )


# -- the result -----------------------------------------------------------------------------------


def test_a_result_tells_how_it_ended_and_what_shows_it(browser, task):
    Task.objects.filter(pk=task.pk).update(result=RESULT, state="failed", failure="rejected")
    page = page_of(browser, task)
    for words in (
        "Reviewer refused", f"changed {SHOWN}", f"why {SHOWN}?", "Conflict", f"{SHOWN}.py",
        "red, 11 of 14 passed", "green, 14 of 14 passed", "1 fixed", f"t.py::{SHOWN}",
        "tests/t.py", "1 added, 4 removed", "shop/a.py:3", "1,234 tokens in", "qwen2.5-coder:7b",
        "2 times", "11 cases unchanged",
    ):  # fmt: skip
        assert words in page, words


def test_a_result_without_check_patch_or_verdict_is_shown(browser, task):
    nothing = {"check": None, "findings": None, "patch": None, "verdict": None, "conflicts": []}
    bare = RESULT | nothing | {"applied": "none", "ended": "unchanged", "base_commit": ""}
    Task.objects.filter(pk=task.pk).update(result=bare)
    page = page_of(browser, task)
    assert "Changed nothing" in page
    assert "On a clean checkout" not in page


def test_a_result_of_another_shape_is_shown_as_it_is(browser, task):
    Task.objects.filter(pk=task.pk).update(result={"ended": BAD})
    assert f"&quot;ended&quot;: &quot;{SHOWN}&quot;" in page_of(browser, task)


def test_what_applying_came_to_is_shown(browser, task):
    told = {"applied": "conflict", "conflicts": RESULT["conflicts"], "files": [f"{BAD}.txt"]}
    Task.objects.filter(pk=task.pk).update(kind="apply", result=told)
    page = page_of(browser, task)
    assert f"{SHOWN}.txt" in page
    assert "both changed it" in page


# -- the patch ------------------------------------------------------------------------------------


def test_a_patch_is_shown_line_by_line_with_what_a_person_may_do(browser, task):
    with_patch(task, text=PATCH.replace("+new", f"+{BAD}"))
    page = page_of(browser, task)
    assert '<span class="oc-del">-old' in page
    assert f'<span class="oc-add">+{SHOWN}' in page
    assert '<span class="oc-hunk">@@ -1 +1 @@' in page
    for verb in ("apply", "discard"):
        assert f"/admin/batches/task/{task.pk}/do/{verb}/" in page
    assert "do/keep/" not in page


def test_a_decided_patch_says_who_decided_and_is_not_decided_again(browser, task, admin):
    patched = with_patch(task)
    Decision.objects.create(task=patched, attempt=patched.attempt, verb="discard", by=admin)
    page = page_of(browser, task)
    assert "Discarded" in page
    assert "do/apply/" not in page


def test_a_patch_is_discarded_from_the_page(browser, task):
    with_patch(task)
    address = f"/admin/batches/task/{task.pk}/do/discard/"
    assert "can no longer be applied" in browser.get(address).text
    browser.post(address, {"confirmed": "yes"})
    assert Decision.objects.get().verb == "discard"
    refused = browser.post(address, {"confirmed": "yes"}, follow=True).text
    assert "It was decided already" in refused


def test_a_large_patch_is_cut_and_says_so(browser, task):
    line = "+" + "x" * 5_000 + "\n"
    with_patch(task, text=PATCH + line * 3_000)
    page = page_of(browser, task)
    assert "The rest is not shown" in page
    assert len(page) < 400_000


def lines_of(text: str) -> list[dict[str, Any]]:
    return list(patches.files(iter(text.splitlines())))


def test_a_line_that_looks_like_a_header_is_one_of_the_file():
    text = (
        "diff --git a/a b.sql b/a b.sql\nindex 1..2 100644\n--- a/a b.sql\n+++ b/a b.sql\n"
        "@@ -1,2 +1,2 @@\n--- a comment\n+++ b\n same\n"
    )
    [file] = lines_of(text)
    assert file["path"] == "a b.sql"
    assert file["lines"] == [
        ("hunk", "@@ -1,2 +1,2 @@"), ("del", "--- a comment"), ("add", "+++ b"), ("", " same"),
    ]  # fmt: skip


def test_what_git_says_of_a_file_is_kept():
    text = (
        "diff --git a/x b/x\nnew file mode 100755\nindex 0..1\nGIT binary patch\nliteral 3\nKcmZ\n"
        "diff --git a/y b/y\ndeleted file mode 100644\n"
    )
    first, second = lines_of(text)
    assert (first["path"], first["notes"]) == ("x", ["new file mode 100755"])
    assert first["lines"][0] == ("hunk", "GIT binary patch")
    assert (second["notes"], second["lines"]) == (["deleted file mode 100644"], [])


# -- the transcript -------------------------------------------------------------------------------


def test_a_transcript_tells_who_said_what(browser, task):
    say(task, "sandbox", kind="bubblewrap")
    say(task, "prompt", role="coder", loop=1, text=f"The task: {BAD}")
    say(
        task, "turn", role="coder", loop=1, text="I look.", seconds=2.5, input_tokens=1200,
        output_tokens=34, calls=[{"tool": "read_file", "arguments": {"path": BAD}}],
    )  # fmt: skip
    say(task, "tool", name="read_file", arguments={"path": "a"}, result=BAD, ok=True, blocked=False)
    say(task, "tool", name="run_command", arguments={}, result="no", ok=False, blocked=True)
    say(task, "check", loop=1, ok=False, reason="2 failed", output=BAD, seconds=1)
    say(task, "verdict", loop=1, approve=False, problems=[BAD])
    page = page_of(browser, task)
    for words in (
        "to the coder", "I look.", "1,200 tokens in, 34 out", "calls read_file", "blocked",
        "2 failed", "sent back",
    ):  # fmt: skip
        assert words in page, words
    log = page[page.index('id="log"') :]
    assert "bubblewrap" in log
    assert "I look." not in log


def test_a_long_conversation_is_shown_in_pages_and_a_long_text_is_folded(browser, task):
    lines = [say(task, "turn", text=f"turn {n}; " + "y" * 10_000) for n in range(100)]
    page = page_of(browser, task)
    assert page.count("oc-talk-turn") == transcript.SHOWN
    assert len(page) < 300_000
    assert "turn 99;" in page
    earlier = f"?said_before={lines[60].pk}"
    assert f'href="{earlier}#transcript"' in page
    before = page_of(browser, task, earlier)
    assert "turn 59;" in before
    assert "turn 60;" not in before
    assert "newest" in before


def test_only_the_newest_attempt_is_told(browser, task):
    say(task, "turn", attempt=1, text="the first attempt")
    Task.objects.filter(pk=task.pk).update(attempt=2)
    say(task, "turn", attempt=2, text="the second attempt")
    page = page_of(browser, task)
    assert "the second attempt" in page
    assert "the first attempt" not in page


def test_the_whole_transcript_is_there_to_download(browser, task):
    say(task, "turn", text="hello")
    kept = Artefact.objects.create(
        task=task, attempt=1, name="transcript.jsonl", media_type="application/x-ndjson",
        file=ContentFile(b"{}\n", "transcript.jsonl"), size=3,
    )  # fmt: skip
    address = f"/admin/batches/task/{task.pk}/artefacts/1/{kept.name}"
    assert f'href="{address}" download' in page_of(browser, task)
    assert b"".join(browser.get(address).streaming_content) == b"{}\n"
