"""Which worker this process is: every line it logs says so, from whichever thread."""

worker = ""
"""The name in the Worker table; empty in a process that is none."""
