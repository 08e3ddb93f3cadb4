"""``fwlocal doctor``: what this installation and this machine are, and what is wrong with them."""

from fwlocal.doctor.examination import Problem, Report, examine
from fwlocal.doctor.view import as_data, show

__all__ = ["Problem", "Report", "as_data", "examine", "show"]
