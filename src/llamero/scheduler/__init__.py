"""Decides what is loaded: `plan.py` computes, `loop.py` acts."""
