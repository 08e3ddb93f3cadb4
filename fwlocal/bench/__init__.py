"""``fwlocal bench``: which level to run, measured: size, memory, speed, and distance from the best.

One process, one model in memory at a time. Each module has one part: what is measured (``speed``,
``quality``, ``answers``), what follows from it (``statistics``, ``verdict``, ``comparison``), how
it is kept (``kept``, ``result_file``) and shown (``table``, ``markdown``, ``plot``).
"""
