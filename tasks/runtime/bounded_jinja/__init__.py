"""Renders untrusted Jinja templates (of a family, a recipe, or a model's chat template) in bounded time and memory.

Jinja's sandbox protects the machine, but does not limit time and memory: nested loops, repeated doubling of a string, and
`'x' * 10**9` are allowed. Here every loop iteration and call is counted, and the size of every string is checked in advance.
"""
