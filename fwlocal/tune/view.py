"""What tune found, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from fwlocal.draft import KnownWidths
from fwlocal.tables import Column, Table
from fwlocal.tuned import Finding, Tuned

_VERDICTS: Mapping[str, str] = {
    "taken": "taken",
    "noise": "no gain beyond noise",
    "noisy": "too noisy to tell; try again when the machine is quiet",
    "default": "the default is best",
    "lossy": "not taken",
    "none": "not tried",
}


def brought(finding: Finding) -> str:
    """How many times as fast, with its interval: ``1.12x (1.10 to 1.15)``; "" where nothing was
    timed often enough. Where that is too noisy, the interval alone."""
    if finding.ratio is None:
        return ""
    if finding.verdict == "noisy":
        return f"{finding.low:.2f}x to {finding.high:.2f}x"
    return f"{finding.ratio:.2f}x ({finding.low:.2f} to {finding.high:.2f})"


def line(finding: Finding) -> str:
    """One finding as a sentence."""
    verdict = _VERDICTS.get(finding.verdict, finding.verdict)
    note = f" ({finding.note})" if finding.note else ""
    if finding.ratio is None:
        return f"{finding.setting}: {finding.default}, {verdict}{note}"
    against = f"{finding.best} is {brought(finding)} as fast as {finding.default}"
    return f"{finding.setting}: {against}, {verdict}{note}"


def exact(known: KnownWidths) -> str:
    """How many tokens at once a draft may have, as a sentence."""
    short, long = (", ".join(map(str, sure)) for sure in (known.short_sure, known.long_sure))
    if not short and not long:
        return "drafts: several tokens at once are rounded otherwise, so none are used on the CPU"
    return (
        f"drafts: {short or 'no'} tokens at once are exact up to 256 tokens of context, "
        f"{long or 'none'} beyond"
    )


def table(findings: Sequence[Finding]) -> Table:
    """A row for each setting."""
    columns = (
        Column("SETTING"),
        Column("DEFAULT"),
        Column("BEST"),
        Column("SPEED"),
        Column("", folds=True),
    )
    rows = [(f.setting, f.default, f.best, brought(f), _remark(f)) for f in findings]
    return Table(columns, rows)


def _remark(finding: Finding) -> str:
    verdict = _VERDICTS.get(finding.verdict, finding.verdict)
    return f"{verdict}: {finding.note}" if finding.note else verdict


def as_data(tuned: Tuned) -> dict[str, Any]:
    """For ``--json``."""
    return asdict(tuned)


def conclusion(tuned: Tuned, now: Sequence[Finding]) -> str:
    """What is used from now on, in a line, and which of the settings that were tried ``now`` have
    to be tried again."""
    noisy = [finding.setting for finding in now if finding.verdict == "noisy"]
    again = f"; {_VERDICTS['noisy']}: {', '.join(noisy)}" if noisy else ""
    taken = ", ".join(f"{name} {_told(value)}" for name, value in tuned.settings.taken().items())
    if taken:
        used = f"{tuned.model} is loaded with {taken} from now on, where nothing else is asked for"
    elif noisy or not tuned.n_measured:
        used = f"{tuned.model}: nothing is changed"
    else:
        used = f"{tuned.model}: the defaults fit this machine; nothing is changed"
    return used + again


def _told(value: object) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else str(value)
