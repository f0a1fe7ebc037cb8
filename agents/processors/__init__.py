"""One module per kind of task. Found by dotted path, never imported by the console."""
