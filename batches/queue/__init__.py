"""Every write of a task's state.

Each is one conditional update whose row count is read: a write that finds the row in another state,
or under another attempt, changes nothing.
"""
