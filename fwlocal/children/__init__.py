"""A process of our own with pickled messages over its stdin and stdout, for work that may die.

llama.cpp ends the whole process when one of its checks fails or a machine it computes on is gone;
in a child that is an exception here. It is started afresh, never forked, and needs no main guard
in a user's script. What the messages mean is the business of the module that runs in the child.
"""

from fwlocal.children.child import Child, ChildDied
from fwlocal.children.frames import ChildFailed
from fwlocal.children.parent import Parent, serve

__all__ = ["Child", "ChildDied", "ChildFailed", "Parent", "serve"]
