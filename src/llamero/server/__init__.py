"""The HTTP server: who may ask, which handler answers, and how. What a model does with a request is decided below."""
