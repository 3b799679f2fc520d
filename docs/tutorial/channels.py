"""A channel: one post, one stamp, every member reads it, and to everybody else it is one more letter.

Run it: it needs no server and no network.
"""

from pennypost import Client, sandbox

with sandbox() as office, Client(office) as alice, Client(office) as bob, Client(office) as carol:
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
