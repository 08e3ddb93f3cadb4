"""Chats on the disk: one file for each, appended to as it goes, so that nothing said is lost.

``events`` is the format of a line, ``fold`` makes turns of events, ``reading`` makes a session of a
file's lines, ``growing`` writes them, ``recording`` keeps a running chat (``facts`` of its answers
too), ``folder`` holds the files, ``outline`` and ``search`` look through them, ``export`` writes
them for others.
"""
