"""The API of rknn-toolkit2, on qloupe: ``from qloupe.rknn import RKNN`` instead of ``from rknn.api import RKNN``.

Names, defaults and return codes are the vendor's. What it answers with a traceback is one sentence here and -1.
docs/tutorial/migration.md has the table.
"""

from .api import RKNN

__all__ = ["RKNN"]
