"""The same random locks and witnesses judged by us, by Nutshell's mint and by cashu-ts."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pennypost.protocol.errors import ProofLocked
from pennypost.protocol.lock import Lock, lock_secret
from pennypost.protocol.nuts import BlindedMessage, Proof
from pennypost.protocol.witness import verify_witnesses
from tests.support.foreign import PROJECT, node
from tests.support.locks import HASH, PREIMAGE, key, output, proof, signature, signed_together, witness
from tests.support.require import require
from tests.support.server import clean_environment

CASES = 400
SEED = 11


@dataclass(frozen=True)
class Case:
    """Inputs and outputs, what SIG_ALL signs (or None), and what made them."""

    inputs: list[Proof]
    outputs: list[BlindedMessage]
    message: str | None
    lock: Lock
    signers: set[int]
    preimage: str | None

    @property
    def wire(self) -> Any:
        return {"inputs": msgspec.to_builtins(self.inputs), "message": self.message}

    @property
    def ours(self) -> bool:
        try:
            verify_witnesses(self.inputs, self.outputs, int(time.time()))
        except ProofLocked:
            return False
        return True

    @property
    def expired(self) -> bool:
        return self.lock.locktime == 1


def random_case(chance: random.Random) -> Case:
    """A well-formed lock, signed by some of its keys and of others."""
    keys = chance.sample(range(1, 5), chance.randint(1, 4))
    refund = chance.sample(range(4, 8), chance.randint(0, 3))
    locktime = chance.choice([1, 99_999_999_999] if refund else [None, 1, 99_999_999_999])
    kind = chance.choice(["P2PK", "HTLC"])
    if kind == "HTLC" and chance.random() < 0.3:
        keys = []
    written = tuple(map(key, keys))
    lock = Lock(
        kind,  # type: ignore[arg-type]
        HASH if kind == "HTLC" else written[0],
        written if kind == "HTLC" else written[1:],
        chance.randint(1, max(1, len(keys))),
        locktime,
        tuple(map(key, refund)),
        chance.randint(1, max(1, len(refund))),
        chance.random() < 0.4,
    )
    secrets = [lock_secret(lock, chance.randbytes(32)) for _ in range(chance.randint(1, 3))]
    outputs = [output(number) for number in range(chance.randint(1, 3))]
    signers = set(chance.sample(range(1, 9), chance.randint(0, 5)))
    preimage = chance.choice([PREIMAGE.hex(), PREIMAGE.hex(), None, "00" * 32]) if kind == "HTLC" else None
    more = {} if preimage is None else {"preimage": preimage}
    if not lock.sig_all:
        inputs = [proof(each, witness([signature(each, signer) for signer in signers], **more)) for each in secrets]
        return Case(inputs, outputs, None, lock, signers, preimage)
    inputs = signed_together(secrets, outputs, *signers, **more)
    if chance.random() < 0.2:
        # Outputs other than those signed.
        outputs = [*outputs, output(9)]
    parts = [each.secret + each.C for each in inputs] + [f"{each.amount}{each.B_}" for each in outputs]
    return Case(inputs, outputs, "".join(parts), lock, signers, preimage)


def judged(cases: list[Case], verdicts: list[bool]) -> None:
    """The verdicts agree with ours, and there are enough of each for that to mean something."""
    assert len(cases) == len(verdicts)
    differing = [
        (case.lock, case.signers, case.preimage)
        for case, each in zip(cases, verdicts, strict=True)
        if case.ours != each
    ]
    assert not differing, differing[:3]
    found = Counter(verdicts)
    assert min(found[True], found[False]) > len(cases) / 5


def random_cases() -> list[Case]:
    chance = random.Random(SEED)
    return [random_case(chance) for _ in range(CASES)]


def nutshell_knows(case: Case) -> bool:
    """Not what Nutshell 0.20 decides otherwise than NUT-11 and NUT-14 say.

    It refuses a refund beside a wrong preimage, wants a preimage in each input under SIG_ALL, and a witness there even
    when nobody need sign any more.
    """
    if case.lock.kind == "HTLC" and ((case.lock.sig_all and len(case.inputs) > 1) or case.preimage == "00" * 32):
        return False
    return not (case.expired and not case.lock.refund and case.lock.sig_all)


def test_nutshell_judges_as_we_do(tmp_path: Path) -> None:
    named = os.environ.get("PENNYPOST_CASHU_PYTHON")
    python = Path(named) if named else PROJECT / ".cache" / "cashu" / "bin" / "python"
    require(python.exists(), "Nutshell is not installed (make cashu)")
    cases = [case for case in random_cases() if nutshell_knows(case)]
    done = subprocess.run(
        [python, Path(__file__).with_name("nutshell_conditions.py")],
        cwd=tmp_path,
        env=clean_environment(),
        input=json.dumps([case.wire for case in cases]),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    judged(cases, json.loads(done.stdout))


def cashu_ts_knows(case: Case) -> bool:
    """Not an expired HTLC without its preimage: cashu-ts asks for it as soon as the receivers have signed."""
    return not (case.lock.kind == "HTLC" and case.expired and case.preimage != PREIMAGE.hex())


def test_cashu_ts_judges_as_we_do() -> None:
    cases = [case for case in random_cases() if cashu_ts_knows(case)]
    judged(cases, node("conditions.mjs", given=[case.wire for case in cases]))
