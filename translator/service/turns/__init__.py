"""Turns: one Responses request each, sent upstream until it is accepted, and its events.

Begin with `state`, the decisions without I/O; `turn` is the driver around it. `dispatcher` starts
turns, `adaptive` writes their attempts, `sink` is the short path of chunks.
"""
