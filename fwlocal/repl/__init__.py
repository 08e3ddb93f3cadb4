"""``fwlocal chat``: the loop, its commands, and the screen."""
