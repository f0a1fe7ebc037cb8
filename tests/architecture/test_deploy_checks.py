"""What is shipped for deployment has no finding, and says the same in every file."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from batches.management.commands import up

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
COMPOSE = (ROOT / "deploy/compose.yaml").read_text(encoding="utf-8")
IGNORED = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SERVICES = yaml.safe_load(COMPOSE)["services"]
EXAMPLE = (ROOT / "deploy/env.example").read_text(encoding="utf-8")


def check(tool: str, *arguments: str | Path) -> None:
    """Run a checker of the test environment; any finding is a failure."""
    checked = subprocess.run(
        [Path(sys.executable).with_name(tool), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_shell_scripts_have_no_finding():
    scripts = sorted((ROOT / "deploy").glob("*.sh"))

    assert ROOT / "deploy/start_celery_worker.sh" in scripts
    check("shellcheck", "--external-sources", "--source-path", ROOT, ROOT / ".ci/run", *scripts)


def test_the_dockerfile_has_no_finding():
    check("hadolint", "--no-color", "deploy/Dockerfile")


def test_the_compose_file_is_one():
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/compose.yaml")


def test_variables_of_the_compose_file_are_those_of_the_example():
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE)) - {"COMPOSE_PROJECT_NAME", "LOG_LEVEL"}
    required = set(re.findall(r"(?<!\$)\$\{(\w+):\?", COMPOSE))
    given = dict(re.findall(r"^(\w+)=(.*)$", EXAMPLE, re.MULTILINE))

    assert used == given.keys() - {"ALLOWED_HOSTS", "HTTPS"}
    assert required == {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "FLOWER_BASIC_AUTH"}
    for name in required:
        assert given[name] == "", "a secret that is shipped is none"


def test_only_the_console_and_flower_are_reached_and_from_this_machine():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports.keys() == {"web", "flower"}
    assert all(port.startswith("127.0.0.1:") for listed in ports.values() for port in listed)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_every_service_says_whether_it_is_well_and_what_becomes_of_it():
    for name, service in SERVICES.items():
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped"), name
        assert "healthcheck" in service or name == "web", name


def test_every_volume_is_declared_and_used():
    used = {
        volume.partition(":")[0] for service in SERVICES.values() for volume in service["volumes"]
    }

    assert used == yaml.safe_load(COMPOSE)["volumes"].keys()


def test_the_image_serves_as_up_does():
    class Listener:
        def fileno(self) -> int:
            return 3

    (line,) = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    command = json.loads(line)
    served = up.web(Listener()).command

    assert command[0] == "python"
    assert command[command.index("--bind") + 1] == "0.0.0.0:8000"
    where = command.index("--bind") + 1
    of_up = [*served[1:where], command[where], *served[where + 1 : served.index("--chdir")]]
    assert command[1:] == of_up


def test_the_image_has_every_part_of_the_program():
    copied = set(re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE))
    sent = set(re.findall(r"^!(.+)$", IGNORED, re.MULTILINE))
    packages = {name.partition(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}

    assert packages | {"manage.py", "requirements.lock", "templates"} < copied
    assert sent == copied


def test_the_image_is_run_by_an_ordinary_user_from_the_lock_file():
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert "make_environment /app/.venv requirements.lock" in DOCKERFILE
