"""One lease in one slot: run, renew, watch, settle, follow up. Used by both backends.

Only the supervisor talks to the database; slots are plain child processes, started here alone.
"""
