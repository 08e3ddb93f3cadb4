"""``/ab``: one turn answered by two levels of a model, so that they can be compared.

Where two growing texts part, how they stand side by side, what is told of each, and whether both
fit in memory. Which command asks for it, and what a pick does to the chat, ``fwlocal.repl.ab`` has.
"""
