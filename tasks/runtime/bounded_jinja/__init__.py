"""Jinja that somebody else wrote (a template of a family, of a recipe, a model's own chat template), in bounded time and memory.

Jinja's sandbox keeps a template from the machine, not from its time: loops within loops, texts doubled again and again, and
`'x' * 10**9` it lets through. Here each turn of a loop and each call is counted, and each text is measured before it is made.
"""
