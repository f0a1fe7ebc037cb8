#!/usr/bin/env python
"""Django's command line. Every command takes ``--data-dir DIR`` besides its own options."""

import argparse
import gc
import os
import sys
from pathlib import Path


def take_data_dir(arguments: list[str]) -> list[str]:
    """The arguments without ``--data-dir``, which becomes DATA_DIR: the settings read it."""
    parser = argparse.ArgumentParser(prog="manage.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--data-dir", metavar="DIR")
    ours, rest = parser.parse_known_args(arguments)
    if ours.data_dir:
        os.environ["DATA_DIR"] = str(Path(ours.data_dir).expanduser().resolve())
    return rest


def main() -> None:
    # Looking all that is imported over for garbage, again and again, is a fifth of each start.
    gc.disable()  # until the app is ready
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415
        from django.core.management import execute_from_command_line  # noqa: PLC0415
    except ImportError as error:
        raise SystemExit(
            f"{error}. Run ./deploy/up.sh once, then use .venv/bin/python manage.py …"
        ) from error
    arguments = take_data_dir(sys.argv[1:])
    try:
        execute_from_command_line([sys.argv[0], *arguments])
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except ImproperlyConfigured as error:
        raise SystemExit(f"The settings are wrong. {error}") from error


if __name__ == "__main__":
    main()
