"""Anthropic's dialect: what `/v1/messages` and its `count_tokens` read and write. Pure."""
