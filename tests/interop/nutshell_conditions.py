"""Nutshell's verdict on spending conditions, run by Nutshell's own Python: cases as JSON on stdin, booleans on stdout.

A case: {"inputs": [NUT-00 proofs], "message": what SIG_ALL signs}
"""

import json
import sys

from cashu.core.base import Proof
from cashu.core.errors import TransactionError
from cashu.mint.conditions import LedgerSpendingConditions


def good(case: dict) -> bool:
    conditions = LedgerSpendingConditions()
    proofs = [Proof(**given) for given in case["inputs"]]
    try:
        # The two steps of a swap there (mint/verification.py).
        return all(map(conditions._verify_input_spending_conditions, proofs)) and (
            conditions._verify_input_output_spending_conditions(proofs, [], case["message"])
        )
    except (TransactionError, ValueError):
        return False


json.dump([good(case) for case in json.load(sys.stdin)], sys.stdout)
