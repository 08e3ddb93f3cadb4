"""``fwlocal chat``: the loop, its commands, and what may reach the terminal."""
