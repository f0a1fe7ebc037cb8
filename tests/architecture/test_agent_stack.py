"""The agent's library is large: only a slot that runs an agent's task imports it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STACK = ("pydantic_ai", "openai", "agents.coding.running")
WEB = """
import config.wsgi, config.urls
from django.urls import get_resolver
assert get_resolver().url_patterns
"""
WORKER = "import batches.management.commands.worker, batches.consumers.poller"
CELERY = "import config.celery, batches.consumers.celery"


@pytest.mark.parametrize("process", [WEB, WORKER, CELERY], ids=["web", "worker", "celery"])
def test_no_process_but_a_slot_imports_it_and_each_knows_the_kind(
    process: str, tmp_path: Path
) -> None:
    code = f"""
import sys, django
django.setup()
{process}
from batches import registry
agent = registry.kind("agent").processor
assert agent.validate({{"description": "x"}}, {{}})["coder_model"]
assert agent.resources(agent.validate({{"description": "x"}}, {{}}))
imported = [name for name in {STACK} if name in sys.modules]
sys.exit(f"imported: {{imported}}" if imported else 0)
"""
    environment = {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SECRET_KEY": "only-for-this-check-" + "k3y" * 20,
        "DATA_DIR": str(tmp_path),
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0" if process is CELERY else "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
