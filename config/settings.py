"""All settings, in one file: each value that may differ between installations is an env variable.

The guide (deploy/README.md) documents every variable read here; a test holds it to that.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dj_database_url
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

from agents.limits import SandboxSettings
from batches.backends import brokers
from config import env, keys

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.path("DATA_DIR", BASE_DIR / "data")

DEBUG = env.boolean("DEBUG", default=False)
SECRET_KEY = env.secret("SECRET_KEY") or keys.kept_key(DATA_DIR / "secret_key")
ALLOWED_HOSTS = env.listing("ALLOWED_HOSTS", ("127.0.0.1", "localhost", "[::1]"))
CSRF_TRUSTED_ORIGINS = env.listing("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "unfold",
    "config.apps.AdminOnDemand",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular_sidecar",  # the static files of the page /docs
    "batches",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.csp.ConsoleCSPMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# -- database -------------------------------------------------------------------------------------


SQLITE_SYNCHRONOUS = env.choice("SQLITE_SYNCHRONOUS", "FULL", ("OFF", "NORMAL", "FULL", "EXTRA"))
SQLITE_BUSY_TIMEOUT = env.integer("SQLITE_BUSY_TIMEOUT", 20, least=1)
SQLITE_OPTIONS = {
    # A writer that begins with a read cannot be upgraded while another one writes: it fails at
    # once, whatever the timeout. IMMEDIATE queues it instead.
    "transaction_mode": "IMMEDIATE",
    "timeout": SQLITE_BUSY_TIMEOUT,
    "init_command": (
        "PRAGMA journal_mode=WAL;"
        f"PRAGMA synchronous={SQLITE_SYNCHRONOUS};"
        "PRAGMA foreign_keys=ON;"
        "PRAGMA cache_size=-65536;"
    ),
}
# A process frozen in the middle of a transaction keeps its locks, which no reaper gets past.
POSTGRES_OPTIONS = {
    "options": "-c idle_in_transaction_session_timeout=60s",
    # A server that vanished without a word must be noticed within a lease, not within hours.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}


def database(url: str) -> dict[str, Any]:
    """Django's entry for ``url``, with the options that each engine needs."""
    try:
        entry: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=60))
    except ValueError as error:
        # The value may hold a password, so it is not repeated.
        raise ImproperlyConfigured(
            "DATABASE_URL is not an address such as postgresql://user:password@host:5432/name."
        ) from error
    options = entry.setdefault("OPTIONS", {})
    if entry["ENGINE"] == "django.db.backends.sqlite3":
        keys.make_private(Path(entry["NAME"]))
        options |= SQLITE_OPTIONS
    elif entry["ENGINE"] == "django.db.backends.postgresql":
        entry["CONN_HEALTH_CHECKS"] = True
        entry["OPTIONS"] = POSTGRES_OPTIONS | options  # the address may say otherwise
    else:
        raise ImproperlyConfigured(
            f"DATABASE_URL names {entry['ENGINE']}: use sqlite:/// or postgresql://."
        )
    return entry


DATABASE_URL = env.secret("DATABASE_URL")
DATABASES = {
    "default": database(DATABASE_URL or f"sqlite:///{quote(str(DATA_DIR))}/ollama-coder.sqlite3")
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# -- web ------------------------------------------------------------------------------------------

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
MEDIA_ROOT = DATA_DIR / "artefacts"
# Other users of the machine have no business in what tasks produced.
FILE_UPLOAD_PERMISSIONS = 0o600
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o700
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = DEBUG
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

HTTPS = env.boolean("HTTPS", default=False)
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^health/"]  # probes speak to the server itself
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        # The browsable API and the admin's skin carry style attributes.
        "style-src": [SELF, "'unsafe-inline'"],
        "script-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

DATA_UPLOAD_MAX_MEMORY_SIZE = env.integer("MAX_BODY_BYTES", 64 * 1024 * 1024, least=1024)
DATA_UPLOAD_MAX_NUMBER_FIELDS = 10_000
FILE_UPLOAD_HANDLERS = [
    "batches.admin.uploads.Bounded",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "batches.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PARSER_CLASSES": ["batches.api.parsing.ObjectParser"],
    "DEFAULT_PERMISSION_CLASSES": ["batches.api.permissions.ModelPermissions"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "batches.api.paging.NewestFirst",
    "DEFAULT_SCHEMA_CLASS": "batches.api.schema.ConsoleSchema",
    "EXCEPTION_HANDLER": "batches.api.problems.handle",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {
    "TOKEN_TTL": timedelta(days=env.integer("TOKEN_DAYS", 90, least=1, most=3650)),
    "AUTH_HEADER_PREFIX": "Token",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Ollama Coder",
    "DESCRIPTION": "A job console for batches of coding work.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.1",
    "COMPONENT_SPLIT_PATCH": False,  # a PATCH is read whole: what it must say is in its serializer
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": [],  # or one that names each list of choices, and clashes
}

# -- the queue ------------------------------------------------------------------------------------

TASK_KINDS: dict[str, dict[str, Any]] = {
    "agent": {
        "processor": "agents.processors.agent.AgentProcessor",
        "task": "process_agent_task",
        "endpoint": "agent-tasks",
        "items": "tasks",
        "queue": "agent_tasks",
        "long": True,
        "tidy": True,
        "settings": "batches.model_profiles.processor_settings",
        "inputs": "batches.predecessors.inputs",
    },
    "apply": {
        "processor": "agents.processors.apply.ApplyProcessor",
        "endpoint": "",
        "items": "patches",
        "queue": "high_priority",
        "tidy": True,
        "inputs": "batches.review.inputs",
    },
    "validation": {
        "processor": "agents.processors.validation.ValidationProcessor",
        "task": "process_validation",
        "endpoint": "validation",
        "items": "targets",
        "queue": "validation",
    },
    "test": {
        "processor": "agents.processors.test_run.ModuleRunProcessor",
        "task": "process_test",
        "endpoint": "tests",
        "items": "modules",
        "queue": "tests",
    },
    "mcp": {
        "processor": "agents.processors.mcp_operation.OperationProcessor",
        "task": "process_mcp_operation",
        "endpoint": "mcp-operations",
        "items": "operations",
        "queue": "mcp_operations",
        "settings": "batches.mcp_servers.processor_settings",
    },
}
"""Kind → dotted path of its processor, the name of its Celery task (``process_KIND`` unless it says
so), its endpoint (empty: only the console submits it), the list field of a body, its usual queue;
``long: True`` for kinds that run for minutes; ``tidy: True`` where its processor clears up in the
workspace after an attempt that was killed; ``settings`` where rows add to what its processor is
told, and ``inputs`` where rows add to each task's payload: the dotted paths of what reads them."""

LEASE_SECONDS = env.integer("LEASE_SECONDS", 60, least=2, most=3600)
MAX_TIMEOUT_SECONDS = 3300
DEFAULT_TIMEOUT_SECONDS = env.integer(
    "DEFAULT_TIMEOUT_SECONDS", 1800, least=1, most=MAX_TIMEOUT_SECONDS
)
READY_BACKLOG_SECONDS = env.integer("READY_BACKLOG_SECONDS", 120, least=10)
RETENTION_DAYS = env.integer("RETENTION_DAYS", 30, least=0)
"""Finished batches older than this are deleted by cleanup; 0 keeps them for ever."""

REQUIRE_SANDBOX = env.boolean("REQUIRE_SANDBOX", default=False)
SANDBOX_PROBE = "agents.sandbox.probe"
"""Dotted path of what tells what holds commands on this machine."""

OLLAMA_BASE_URL = env.address("OLLAMA_BASE_URL", "http://127.0.0.1:11434")
"""Where models are that have no profile, or one without an endpoint."""

PROCESSOR_SETTINGS: dict[str, Any] = {
    "require_sandbox": REQUIRE_SANDBOX,
    "run_as_uid": env.integer("SANDBOX_UID", 65534, least=1),
    "network": env.boolean("SANDBOX_NETWORK", default=False),
    "memory_bytes": env.integer("SANDBOX_MEMORY_MIB", 4096, least=64) * 1024 * 1024,
    "allowed_commands": [
        *SandboxSettings().allowed_commands,
        *env.listing("ALLOWED_COMMANDS"),
    ],
    "ollama_base_url": OLLAMA_BASE_URL,
    "secret_files": env.listing("AGENT_SECRET_FILES"),
}
"""Sent to every processor with each job: fields of ``agents.limits.SandboxSettings``, where the
models are that have no profile, and which files agents may not read besides the usual ones."""

# -- Celery: used once a broker is configured ----------------------------------------------------

CELERY_APPLICATION = "config.celery.app"
CELERY_BROKER_URL = brokers.address(env.secret("CELERY_BROKER_URL"))
"""Empty: no broker, and batches run on the database backend."""
if CELERY_BROKER_URL:
    # Importing them costs every process a tenth of a second and more. Before ours, whose admin
    # shows their pages in its own way.
    INSTALLED_APPS[-1:-1] = ["django_celery_results", "django_celery_beat", "batches.beat"]
CELERY_FALLBACK = env.boolean("CELERY_FALLBACK", default=False)
"""Database workers take the tasks of Celery batches while the broker does not answer."""
CELERY_REDIS_MASTER = env.text("CELERY_REDIS_MASTER")
CELERY_BROKER_TRANSPORT_OPTIONS = brokers.transport_options(CELERY_BROKER_URL, CELERY_REDIS_MASTER)
CELERY_BROKER_TRANSPORT = brokers.transport(CELERY_BROKER_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# RabbitMQ closes the channel of a task that runs for longer than its consumer_timeout, half an hour
# by default: the worker takes a new one, and the message that comes again finds its row taken.
CELERY_BROKER_CHANNEL_ERROR_RETRY = True
CELERY_QUORUM_QUEUES = env.boolean("CELERY_QUORUM_QUEUES", default=False)
CELERY_TASK_CREATE_MISSING_QUEUES = False
CELERY_TASK_DEFAULT_QUEUE = "default"

CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_TIMEZONE = TIME_ZONE
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = False  # the row is reaped: a message that kills must not loop
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False  # the lease fences them
CELERY_TASK_SOFT_TIME_LIMIT = 3300 + 30  # seconds; behind MAX_TIMEOUT_SECONDS
CELERY_TASK_TIME_LIMIT = 3600
CELERY_WORKER_MAX_TASKS_PER_CHILD = env.integer("CELERY_MAX_TASKS_PER_CHILD", 100, least=1)
CELERY_WORKER_SEND_TASK_EVENTS = CELERY_TASK_SEND_SENT_EVENT = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_DB_REUSE_MAX = env.integer("CELERY_DB_REUSE_MAX", 1000, least=1)
"""Tasks for which a process keeps its database connection: one for each would halve the rate."""

CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_TASK_IGNORE_RESULT = True  # the row's settle writes the TaskResult, in its transaction
CELERY_RESULT_EXPIRES = timedelta(days=env.integer("CELERY_RESULT_DAYS", 7, least=1))
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"

# -- console --------------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Ollama Coder",
    "SITE_HEADER": "Ollama Coder",
    "SITE_SYMBOL": "terminal",
    "SITE_URL": None,
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("console/favicon.svg")}
    ],
    "STYLES": [lambda _: static("console/console.css")],
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.6)",
            "100": "oklch(93.2% .032 255.6)",
            "200": "oklch(88.2% .059 254.1)",
            "300": "oklch(80.9% .105 251.8)",
            "400": "oklch(70.7% .165 254.6)",
            "500": "oklch(62.3% .214 259.8)",
            "600": "oklch(54.6% .245 262.9)",
            "700": "oklch(48.8% .243 264.4)",
            "800": "oklch(42.4% .199 265.6)",
            "900": "oklch(37.9% .146 265.5)",
            "950": "oklch(28.2% .091 267.9)",
        }
    },
    "SIDEBAR": {"navigation": "batches.admin.navigation.sidebar"},
    "DASHBOARD_CALLBACK": "batches.admin.dashboard.context",
}

LOG_FORMAT = env.choice("LOG_FORMAT", "TEXT", ("TEXT", "JSON"))
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "TEXT": {
            "format": "{asctime} {levelname} {name}[{process}] {message}",
            "style": "{",
        },
        "JSON": {"()": "config.logs.JsonFormatter"},
    },
    "handlers": {
        "stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT},
    },
    # Both bring handlers of their own, with formats of their own.
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        "gunicorn.error": {"handlers": [], "propagate": True},
    },
    "root": {
        "handlers": ["stderr"],
        "level": env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
    },
}
