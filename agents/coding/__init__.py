"""The coding agent: its copy of a workspace, its tools and guardrail, its loop and its proof."""
