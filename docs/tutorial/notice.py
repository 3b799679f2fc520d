"""A Lightning payment that tells its receiver of a letter. A sandbox, or with an address that server.

python docs/tutorial/notice.py [URL]
"""

import sys
import tempfile
import threading

from pennypost import Client, sandbox
from pennypost.play import PlayBook

office = sys.argv[1] if len(sys.argv) > 1 else sandbox()
# Two Lightning wallets with play money. Real ones: lightning="nostr+walletconnect://…" or "lnd+https://…".
book = PlayBook()
alices, bobs = book.wallet("alice"), book.wallet("bob")
alice = Client(office, home=tempfile.mkdtemp(), lightning=alices)
bob = Client(office, home=tempfile.mkdtemp(), lightning=bobs)
alice.stamps.buy(10)

payments = bob.notices.watch()
heard = []
listening = threading.Thread(target=lambda: heard.append(next(payments)))
listening.start()
while listening.is_alive():
    # By keysend to Bob's node; a Lightning address or LNURL would carry it as the payment's comment.
    alice.notices.send(bob.npub, "hello Bob", pay=bobs.node.hex(), sat=10)
    listening.join(1)

# So far Bob has asked nobody: the notice says who writes, until when, and where the letter is.
notice = heard[0]
print(notice.sender == alice.npub, notice.msat // 1000, "sat")
print(bob.notices.fetch(notice.notice).text)

alice.close()
bob.close()
if not isinstance(office, str):
    office.close()
