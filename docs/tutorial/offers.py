"""Use case 3: a text for sale, whose payment releases the key. A sandbox, or with an address that server.

python docs/tutorial/offers.py [URL]
"""

import sys
import tempfile

from pennypost import Client, sandbox

url = sys.argv[1] if len(sys.argv) > 1 else None
# Two Lightning wallets with play money. Real ones: lightning="nostr+walletconnect://…" or "lnd+https://…".
book = f"play:{tempfile.mkdtemp()}/book" if url else ""
office = url or sandbox()
firm = Client(office, home=tempfile.mkdtemp(), lightning=f"{book}?firm" if url else None)
customer = Client(office, home=tempfile.mkdtemp(), lightning=f"{book}?customer" if url else None)
firm.stamps.buy(10)

firm.offers.sell(customer.npub, "The audit: rotate your keys.", sat=500, description="audit, October")

for offer in customer.offers.all():
    print(offer.description, "for", offer.sat, "sat")
    # Everything that can be verified is verified before a single sat moves (pennypost.protocol.offer.check_offer).
    print(customer.offers.buy(offer.id, most=500).text)

print("settled:", len(firm.offers.settle()))
firm.close()
customer.close()
if not isinstance(office, str):
    office.close()
