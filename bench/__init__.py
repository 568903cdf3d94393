"""Measurements: our server against the bare engine, against others, and its parts by themselves. See README.md.

Each program is a module that runs alone and has `measure`, which gives back figures; `python -m bench` runs them all.
"""
