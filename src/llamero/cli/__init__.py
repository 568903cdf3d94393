"""The command line: one module per noun, every one of them imported only when its command runs."""
