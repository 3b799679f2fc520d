"""The sync faces of offers, messages with their payment, and notices; each verb runs in the client's own loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pennypost.desk import DAY
from pennypost.exchange import Progress
from pennypost.mail import Mail, Receipt
from pennypost.notices import MOST as MOST_NOTICE
from pennypost.notices import Announced, NoticeReceipt, Price
from pennypost.notices import Notices as AsyncNotices
from pennypost.offers import MOST, Bought, Listed, Sale
from pennypost.offers import WAIT as WAIT_FOR_SELLER
from pennypost.offers import Offers as AsyncOffers
from pennypost.outbox import PATIENCE
from pennypost.paid_mail import ANSWERS, WAIT, PaidReceipt
from pennypost.paid_mail import PaidMail as AsyncPaidMail
from pennypost.threads import LoopThread
from pennypost.trade import Invoice, Request


class Offers:
    """The sync face of pennypost.offers.Offers."""

    def __init__(self, offers: AsyncOffers, thread: LoopThread) -> None:
        self._offers, self._thread = offers, thread

    def sell(
        self,
        to: str | Sequence[str],
        text: str,
        *,
        sat: int,
        description: str = "",
        valid: int = DAY,
        ecash: bool = False,
        trust_office: bool = False,
        once: str | None = None,
        dry_run: bool = False,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> list[Sale]:
        """As pennypost.offers.Offers.sell."""
        return self._thread.call(
            self._offers.sell(
                to,
                text,
                sat=sat,
                description=description,
                valid=valid,
                ecash=ecash,
                trust_office=trust_office,
                once=once,
                dry_run=dry_run,
                patience=patience,
                on_progress=on_progress,
            )
        )

    def sales(self) -> list[Invoice]:
        """As pennypost.offers.Offers.sales."""
        return self._thread.call(self._offers.sales())

    def settle(self) -> list[Invoice]:
        """As pennypost.offers.Offers.settle."""
        return self._thread.call(self._offers.settle())

    def all(self) -> list[Listed]:
        """As pennypost.offers.Offers.all."""
        return self._thread.call(self._offers.all())

    def buy(
        self,
        offer: str,
        *,
        most: int = MOST,
        trust_office: bool = False,
        dry_run: bool = False,
        wait: float = WAIT_FOR_SELLER,
    ) -> Bought:
        """As pennypost.offers.Offers.buy."""
        return self._thread.call(
            self._offers.buy(offer, most=most, trust_office=trust_office, dry_run=dry_run, wait=wait)
        )

    def refunds(self) -> int:
        """As pennypost.offers.Offers.refunds."""
        return self._thread.call(self._offers.refunds())


class PaidMail:
    """The sync face of pennypost.paid_mail.PaidMail."""

    def __init__(self, mail: AsyncPaidMail, thread: LoopThread) -> None:
        self._mail, self._thread = mail, thread

    def send(
        self,
        to: str,
        text: str,
        *,
        sat: int = 0,
        most: int = MOST,
        about: str = "",
        hold: bool = False,
        keep: int = 30 * DAY,
        once: str | None = None,
        dry_run: bool = False,
        wait: float = WAIT,
        patience: float = PATIENCE,
        on_progress: Progress | None = None,
    ) -> PaidReceipt:
        """As pennypost.paid_mail.PaidMail.send."""
        return self._thread.call(
            self._mail.send(
                to,
                text,
                sat=sat,
                most=most,
                about=about,
                hold=hold,
                keep=keep,
                once=once,
                dry_run=dry_run,
                wait=wait,
                patience=patience,
                on_progress=on_progress,
            )
        )

    def finish(self, *, patience: float = PATIENCE) -> list[PaidReceipt]:
        """As pennypost.paid_mail.PaidMail.finish."""
        return self._thread.call(self._mail.finish(patience=patience))

    def requests(self) -> list[Request]:
        """As pennypost.paid_mail.PaidMail.requests."""
        return self._thread.call(self._mail.requests())

    def answer(self, request: str, sat: int = 0, *, dry_run: bool = False, patience: float = PATIENCE) -> Receipt:
        """As pennypost.paid_mail.PaidMail.answer."""
        return self._thread.call(self._mail.answer(request, sat, dry_run=dry_run, patience=patience))

    def answer_all(
        self, price: int, *, watch: bool = False, limit: int = ANSWERS, patience: float = PATIENCE
    ) -> Iterator[Request]:
        """As pennypost.paid_mail.PaidMail.answer_all."""
        answered = self._mail.answer_all(price, watch=watch, limit=limit, patience=patience)

        async def next_one() -> Request | None:
            return await anext(answered, None)

        try:
            while (request := self._thread.call(next_one())) is not None:
                yield request
        finally:
            self._thread.start(answered.aclose())

    def mark(self, mail: Mail) -> Mail:
        """As pennypost.paid_mail.PaidMail.mark."""
        return self._thread.call(self._mail.mark(mail))


class Notices:
    """The sync face of pennypost.notices.Notices."""

    def __init__(self, notices: AsyncNotices, thread: LoopThread) -> None:
        self._notices, self._thread = notices, thread

    def send(
        self,
        to: str,
        text: str,
        *,
        pay: str | None = None,
        sat: int = 1,
        most: int = MOST_NOTICE,
        anonymous: bool = False,
        where: str | None = None,
        relays: Sequence[str] = (),
        max_stamps: int = 64,
        keep: int = 7 * DAY,
        once: str | None = None,
        dry_run: bool = False,
        patience: float = PATIENCE,
    ) -> NoticeReceipt:
        """As pennypost.notices.Notices.send."""
        return self._thread.call(
            self._notices.send(
                to,
                text,
                pay=pay,
                sat=sat,
                most=most,
                anonymous=anonymous,
                where=where,
                relays=relays,
                max_stamps=max_stamps,
                keep=keep,
                once=once,
                dry_run=dry_run,
                patience=patience,
            )
        )

    def prices(self, text: str, relays: Sequence[str], *, keep: int = 7 * DAY) -> list[Price]:
        """As pennypost.notices.Notices.prices."""
        return self._thread.call(self._notices.prices(text, relays, keep=keep))

    def read(self, text: str, *, msat: int = 0) -> Announced:
        """As pennypost.notices.Notices.read."""
        return self._notices.read(text, msat=msat)

    def watch(self) -> Iterator[Announced]:
        """As pennypost.notices.Notices.watch."""
        announced = self._notices.watch()

        async def next_one() -> Announced | None:
            return await anext(announced, None)

        try:
            while (found := self._thread.call(next_one())) is not None:
                yield found
        finally:
            self._thread.start(announced.aclose())

    def fetch(self, notice: str) -> Mail:
        """As pennypost.notices.Notices.fetch."""
        return self._thread.call(self._notices.fetch(notice))
