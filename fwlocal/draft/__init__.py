"""Speculative decoding: several tokens of an answer for one pass over the weights.

A drafter guesses how the answer goes on; the model evaluates all of the guess at once, and the
answer's own sampler draws its tokens from the rows one after the other, as far as they are what was
guessed. So each token is drawn as it would be without, and a wrong guess costs only time: how many
tokens are guessed is decided by what was measured (``controller``), and on a CPU only as many at
once as are computed to the bit like one by one (``widths``). Whose answer it is, and where the
models come from, this room does not know.
"""

from fwlocal.draft.compatible import check_draft
from fwlocal.draft.controller import CPU_ROW_COST, GPU_ROW_COST, Controller
from fwlocal.draft.drafter import Drafter, Figures, Kind
from fwlocal.draft.drafting import Drafting
from fwlocal.draft.exploring import N_TOKENS, explore
from fwlocal.draft.lookup import PromptLookup
from fwlocal.draft.model import DraftModel
from fwlocal.draft.speculation import Speculation, Steering
from fwlocal.draft.widths import KnownWidths, Widths

__all__ = [
    "CPU_ROW_COST",
    "GPU_ROW_COST",
    "Controller",
    "DraftModel",
    "Drafter",
    "Drafting",
    "Figures",
    "Kind",
    "KnownWidths",
    "N_TOKENS",
    "PromptLookup",
    "Speculation",
    "Steering",
    "Widths",
    "check_draft",
    "explore",
]
