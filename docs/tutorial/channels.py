"""Use case 4: a channel. One post, one stamp; every member reads it, and to everybody else it is one more letter.

python docs/tutorial/channels.py [URL]
"""

import sys
import tempfile

from pennypost import Client, sandbox

url = sys.argv[1] if len(sys.argv) > 1 else None
office = url or sandbox()
alice, bob, carol = (Client(office, home=tempfile.mkdtemp()) for _ in range(3))
alice.stamps.buy(10)

news = alice.channels.create("News")
for member in (bob, carol):
    alice.channels.invite("News", member.npub)
    list(member.channels.read())  # the invitation is found in the mail
    member.channels.join("News")

alice.channels.post("News", "meet at nine")
for member in (bob, carol):
    for post in member.channels.read():
        print(post.name, post.author == alice.npub, post.text)

alice.channels.remove("News", carol.npub)  # a fresh key, told to those who stay
alice.channels.post("News", "without Carol")
print([post.text for post in bob.channels.read()], [post.text for post in carol.channels.read()])

for each in (alice, bob, carol):
    each.close()
if not isinstance(office, str):
    office.close()
