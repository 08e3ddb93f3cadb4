"""How many layers go where: computed from a header and a machine, before anything is loaded.

All of it is pure. What the machine has comes from ``fwlocal.hardware``; loading, and what it really
took, are ``fwlocal.loader``'s and ``fwlocal.audit``'s.
"""

from fwlocal.offload.beside import (
    beside,
    in_place_of_layers,
    may_pay,
    request_for_draft,
    without_draft,
)
from fwlocal.offload.context import MIN_N_CTX, default_n_ctx
from fwlocal.offload.decision import COPY_PART, make_plan
from fwlocal.offload.footprint import Footprint, Layer, footprint
from fwlocal.offload.plan import DEFAULT_MARGIN_BYTES, OffloadPlan, Request, Share
from fwlocal.offload.planner import free_bytes, resized, roles_of, with_one_more
from fwlocal.offload.wording import summary, where_layers_are

__all__ = [
    "COPY_PART",
    "DEFAULT_MARGIN_BYTES",
    "MIN_N_CTX",
    "Footprint",
    "Layer",
    "OffloadPlan",
    "Request",
    "Share",
    "beside",
    "default_n_ctx",
    "footprint",
    "free_bytes",
    "in_place_of_layers",
    "make_plan",
    "may_pay",
    "request_for_draft",
    "resized",
    "roles_of",
    "summary",
    "where_layers_are",
    "with_one_more",
    "without_draft",
]
