"""Making models: decisions about what a new model consists of."""
