"""How long tests wait for what takes a moment."""

PATIENCE = 120.0
"""Seconds: on a machine that is busy with something else, all takes ten times as long."""
