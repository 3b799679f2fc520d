"""Use case 1: a private letter. Nobody but Bob can tell that it is for him, or by whom it is.

python docs/tutorial/letters.py [URL]
"""

import sys
import tempfile

from pennypost import Client, sandbox

url = sys.argv[1] if len(sys.argv) > 1 else None
office = url or sandbox()
alice, bob = (Client(office, home=tempfile.mkdtemp()) for _ in range(2))
alice.stamps.buy(10)

receipt = alice.send(bob.npub, "meet at nine", keep=86_400)
print("accepted:", receipt.accepted, "stamps:", receipt.stamps)

for mail in bob.inbox(privacy="page"):  # his letter and the 63 around it, so that the office cannot tell which
    print(mail.sender == alice.npub, mail.text)
print(alice.stamps.balance(), "stamps left")

for each in (alice, bob):
    each.close()
if not isinstance(office, str):
    office.close()
