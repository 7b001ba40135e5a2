"""Dictionaries of mistakes for every layer, and the signature each leaves.

Read in this order: `batch_norm` (right code, and what people write in its place), `dictionary` (what a mistake is),
`signature` (which mistake leaves what a given code leaves), then the other layers.
"""

from xhat.verify.faults.dictionary import Fault
from xhat.verify.faults.signature import DICTIONARIES, Match, Row, diagnose, faults_of, source_of, table

__all__ = ["DICTIONARIES", "Fault", "Match", "Row", "diagnose", "faults_of", "source_of", "table"]
