"""Use case 2: a message with its payment. Play money and a sandbox; with a server's address, that server.

python docs/tutorial/paid_messages.py [URL]
"""

import sys
import tempfile
import threading

from pennypost import Client, sandbox

url = sys.argv[1] if len(sys.argv) > 1 else None
# Two Lightning wallets with play money. Real ones: lightning="nostr+walletconnect://…" or "lnd+https://…".
book = f"play:{tempfile.mkdtemp()}/book" if url else ""
office = url or sandbox()
alice = Client(office, home=tempfile.mkdtemp(), lightning=f"{book}?alice" if url else None)
bob = Client(office, home=tempfile.mkdtemp(), lightning=f"{book}?bob" if url else None)
for each in (alice, bob):
    each.stamps.buy(10)


def answer() -> None:
    """Bob sells his attention for 21 sat a message; his program answers while he is away."""
    for request in bob.paid.answer_all(price=21, watch=True):
        print("asked for an invoice:", request.about)
        break


answering = threading.Thread(target=answer)
answering.start()
done = alice.paid.send(bob.npub, "Which signal do you see?", most=50, about="a question on charts")
answering.join()
print("paid", done.msat // 1000, "sat")

for mail in bob.inbox():
    print(mail.text, "– with", mail.paid_msat // 1000, "sat")

alice.close()
bob.close()
if not isinstance(office, str):
    office.close()
