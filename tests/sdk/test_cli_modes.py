"""The command line: mail of other programs, and the scan key of a home."""

from __future__ import annotations

from tests.sdk.test_cli import Run, run, url

__all__ = ["run", "url"]


def test_mail_of_other_programs(run: Run, url: str) -> None:
    bob = run("keys", "show", "--home", "bob").out.strip()
    run("wallet", "buy", "2", "--home", "alice", "--office", url)
    sent = run(
        "send", bob, "hello", "--mode", "nip17", "--subject", "supper", "--home", "alice", "--office", url, "--json"
    )
    assert sent.code == 0 and sent.lines[0]["accepted"] is True
    assert run("inbox", "--home", "bob", "--office", url, "--json").lines == []
    (mail,) = run("inbox", "--mode", "both", "--home", "bob", "--office", url, "--json").lines
    assert (mail["text"], mail["subject"], mail["mode"]) == ("hello", "supper", "nip17")
    shown = run("inbox", "--mode", "nip17", "--again", "--home", "bob", "--office", url).out
    assert "[supper]" in shown and "    hello" in shown
    wrong = run("send", bob, "x", "--reply-to", "nonsense", "--home", "alice", "--office", url)
    assert wrong.code == 3


def test_a_scan_key_for_a_watcher(run: Run, url: str) -> None:
    told = run("keys", "scan", "--home", "dave", "--office", url, "--publish").out.strip()
    npub = run("keys", "show", "--home", "dave").out.strip()
    assert run("keys", "find", npub, "--home", "erin", "--office", url).out.strip() == told
    key = run("keys", "scan", "--home", "dave", "--office", url, "--export").out
    assert key.startswith("ppscan1") and run("keys", "watch", "--office", url, stdin=key).out == ""
    run("wallet", "buy", "2", "--home", "erin", "--office", url)
    run("send", told, "hello", "--home", "erin", "--office", url)
    run("send", npub, "to the npub", "--home", "erin", "--office", url)
    (found,) = run("keys", "watch", "--office", url, "--json", stdin=key).lines
    assert found["held"] is False and len(found["author"]) == 64
    assert run("keys", "watch", "--office", url, "--after", str(found["number"]), stdin=key).out == ""
    texts = [mail["text"] for mail in run("inbox", "--home", "dave", "--office", url, "--json").lines]
    assert texts == ["hello", "to the npub"]
    assert run("keys", "watch", "--office", url, stdin="nonsense\n").code == 3
