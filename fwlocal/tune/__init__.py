"""``fwlocal tune``: which settings fit a model on this machine, measured.

One setting at a time, from the defaults: every candidate is timed in turns with what is best so
far, and is taken only where it is faster by more than the noise (``decision``). What is found is
``fwlocal.tuned``'s to remember, and ``fwlocal.loader``'s to use.
"""
