"""Between a conversation and the engine: prompts, constraints, media, and the reading of streamed answers. Pure."""
