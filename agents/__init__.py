"""The processors and what they need: plain Python, importable without Django."""
