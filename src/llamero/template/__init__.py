"""Go templates, the language of a model's TEMPLATE: read, looked into, and rendered. Pure."""
