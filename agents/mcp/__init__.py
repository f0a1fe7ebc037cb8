"""Talking to MCP servers (Model Context Protocol) from a slot. The SDK is imported on first use."""
