"""Rows, queue, backends, API, admin and commands of the job console."""
