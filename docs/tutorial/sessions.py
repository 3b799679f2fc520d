"""Sessions: every message by a key of its own, which both sides delete when they have used it.

python docs/tutorial/sessions.py [URL]
"""

import sys
import tempfile

from pennypost import Client, sandbox

url = sys.argv[1] if len(sys.argv) > 1 else None
office = url or sandbox()
alice, bob = (Client(office, home=tempfile.mkdtemp()) for _ in range(2))
for each in (alice, bob):
    each.stamps.buy(10)

word = bob.sessions.word()  # shown as a QR code, or sent over a safe line: it holds a key that is used once
print("met Bob:", alice.sessions.meet(word) == bob.npub)

alice.send(bob.npub, "the first", session=True)
print([mail.text for mail in bob.inbox()])
bob.send(alice.npub, "and back", session=True)  # to the device that wrote; the keys turn with every answer
print([mail.text for mail in alice.inbox()])

for n in range(3):
    alice.send(bob.npub, f"number {n}", session=True)
print(sorted(mail.text for mail in bob.inbox()))
print("again:", [mail.text for mail in bob.inbox(again=True)])  # their keys are gone: nobody opens them twice

for each in (alice, bob):
    each.close()
if not isinstance(office, str):
    office.close()
