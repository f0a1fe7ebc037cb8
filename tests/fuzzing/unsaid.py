"""What a body that fits its schema may still be refused for, since no schema can say it."""

from __future__ import annotations

import re

UNSAID = {
    # Which rows there are.
    r"workspace|.*\.server|groups|after\[\d+\]|resume": r"There is no "
    r"(workspace|server|group|batch) ",
    r"other": r"Must be another batch of kind ",
    r"(variants\[\d+\]\.)?queue": r"['\"].*['\"] is not one of agent_tasks, ",
    r"cursor": r"Invalid cursor\.",
    r"name": r"Workspace with this Name already exists\.|Is taken\.",
    # What time it is.
    r"deadline": r"Is in the past\.",
    r"run_at": r"Must be before the deadline\.",
    # What items and variants say of each other.
    r".*\.id": r".* is also the id of item \d",
    r"variants\[\d+\]\.name": r".* is also the name of variant \d",
    r".*\.depends_on(\[\d+\])?": r"No item of this batch has the id |Goes in a circle: ",
    # Which fields go together.
    r"workspace": r"(This kind of task|The server filesystem) works in a workspace: name one\.",
    r"(variants\[\d+\]\.)?check_command": r"takes the place of checks",
    r"command": r"Give either a command \(stdio\) or a url \(HTTP\)\.",
    r"operations\[\d+\]\.\w+": r"is not for the type |must be the (name|text) ",
    r"endpoint": r"Say where the server is\.",
    r"num_ctx|keep_alive": r"Only Ollama can be told this\.",
    # What this machine has, and lets tasks do.
    r"backend": r"This address is Celery's: ",
    r"path": r"Must be absolute\.|Cannot be opened: ",
    r"environment\.virtualenv": r"There is no bin/python in ",
    r"folders": r".* holds the console's own data|Cannot be followed: ",
    r"secrets?": r".* is (a secret of the console|the console's own)|Cannot be followed: ",
    r"checks(\[\d+\])?": r"must be one of: syntax, ",
    r"(.*\.)?(test_|check_)?command": r".* is not allowed; allowed: |cannot be read as a command "
    r"line|must name a command|Must begin with a program's name",
    # Anything about JSON Lines, which are a text to the schema.
    r".*": r"Line \d+: ",
    r"targets|modules|operations": r"Must hold at least one item\.",
    # Grammars beyond a readable pattern.
    r".*\.path": r"must (be a path|not contain|use / between|be relative)|is longer than a path",
    r"(variants\[\d+\]\.)?(coder|reviewer)_model": r"must be the name of a model, ",
    r"url|endpoint": r"Must (be an address|hold no user) ",
    r"operations\[\d+\]\.arguments.*": r"Null characters|Nested more than 32 levels",
}
"""Field → messages about it; a field may be named by several."""


def is_unsaid(field: str, message: str) -> bool:
    return any(
        re.fullmatch(where, field) and re.match(what, message, re.DOTALL)
        for where, what in UNSAID.items()
    )
