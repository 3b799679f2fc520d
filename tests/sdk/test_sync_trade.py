"""The sync faces of payments, offers and notices have the verbs of the coroutines, and work."""

from __future__ import annotations

import threading
from secrets import token_bytes

import pytest

from pennypost import Client, Sandbox
from pennypost.notices import Notices as AsyncNotices
from pennypost.offers import Offers as AsyncOffers
from pennypost.paid_mail import PaidMail as AsyncPaidMail
from pennypost.protocol.errors import NotAnswered
from pennypost.sync.trade import Notices, Offers, PaidMail


@pytest.mark.parametrize(
    ("sync", "coroutines"), [(Offers, AsyncOffers), (PaidMail, AsyncPaidMail), (Notices, AsyncNotices)]
)
def test_both_faces_have_the_same_verbs(sync: type, coroutines: type) -> None:
    verbs = {name for name in vars(coroutines) if not name.startswith("_")}
    assert verbs == {name for name in vars(sync) if not name.startswith("_")}


def test_every_verb(office: Sandbox) -> None:
    with Client(office) as alice, Client(office) as bob:
        for each in (alice, bob):
            each.stamps.buy(10)
        (sale,) = alice.offers.sell(bob.npub, "report", sat=21)
        assert [each.id for each in bob.offers.all()] == [sale.id]
        assert bob.offers.buy(sale.id).text == "report"
        assert len(alice.offers.settle()) == len(alice.offers.sales()) == 1
        with pytest.raises(NotAnswered):
            alice.paid.send(bob.npub, "hello", sat=5, wait=0)
        (request,) = bob.paid.requests()
        assert bob.paid.answer(request.id).accepted
        assert list(bob.paid.answer_all(5)) == []
        assert alice.paid.send(bob.npub, "hello", sat=5).msat == 5_000
        assert alice.paid.finish() == []
        (mail,) = bob.inbox()
        assert bob.paid.mark(mail).paid_msat == 5_000
        notice = alice.notices.send(bob.npub, "there", anonymous=True).notice
        assert bob.notices.read(notice).sender is None
        assert bob.notices.fetch(notice).text == "there"
        assert [price.sat for price in alice.notices.prices("there", [])] == [1]


def test_watching(office: Sandbox) -> None:
    with Client(office) as alice, Client(office) as bob:
        alice.stamps.buy(3)
        watching = bob.notices.watch()
        wallet = bob._client.payments.wallet
        told = alice.notices.send(bob.npub, "there", pay=wallet.node.hex()).notice  # type: ignore[attr-defined]
        # What came before it listened is not told again, so it is sent until it is heard.
        heard: list[str] = []
        thread = threading.Thread(target=lambda: heard.append(next(watching).notice))
        thread.start()
        while not heard:
            payments = alice._client.payments  # type: ignore[attr-defined]
            alice._thread.call(payments.keysend(wallet.node, 1_000, {34349334: told.encode()}, token_bytes(32)))  # type: ignore[attr-defined]
            thread.join(0.2)
        assert heard == [told]


def test_keys_made_by_two_threads_at_once(office: Sandbox) -> None:
    """The caller's thread asks for the npub while the client's own makes the keys."""
    for _ in range(20):
        with Client(office) as alice:
            together = threading.Barrier(2)
            found: list[str] = []

            def ask(alice: Client = alice, together: threading.Barrier = together, found: list[str] = found) -> None:
                together.wait()
                found.append(alice.npub)

            threads = [threading.Thread(target=ask) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert found == [alice.npub] * 2
