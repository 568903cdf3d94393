"""Counts beyond which a request is an attack on memory, not a conversation: the same in every dialect (security §5)."""

MAX_MESSAGES = 10_000
MAX_TOOLS = 512
MAX_INPUTS = 2_048
MAX_IMAGES = 32

MAX_TOP_LOGPROBS = 20
"""Alternatives of one token (native-api §2)."""
