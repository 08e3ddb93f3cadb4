"""Many prompts answered at once: each in a lane of its own, decoded together.

The texts are those of one prompt at a time, bit for bit, wherever the device computes so: how many
may be decoded together is tried on the first tokens (``together``). Where prompts come from and
answers go to, this room does not know.
"""

from fwlocal.parallel.job import Failed, Finished, Job
from fwlocal.parallel.pool import Pool
from fwlocal.parallel.size import Need, PoolSize, pool_size

__all__ = ["Failed", "Finished", "Job", "Need", "Pool", "PoolSize", "pool_size"]
