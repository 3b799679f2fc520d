"""Places: who asks gets one, and the source that has most gives one up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pennypost_postoffice.places import LOOKS, Places


class Seat:
    def __init__(self, source: bytes) -> None:
        self.source = source
        self.used = False
        self.gave_way = False

    def give_way(self) -> None:
        self.gave_way = True


def _seated(places: Places[Seat], sources: str, at_most: int = 100) -> list[Seat]:
    seats = [Seat(source.encode()) for source in sources]
    for seat in seats:
        places.take(seat, at_most)
    return seats


def _sources(places: Places[Seat]) -> str:
    return "".join(sorted(seat.source.decode() for seat in places))


def test_a_source_may_have_all_while_there_are_places() -> None:
    places: Places[Seat] = Places()
    assert not any(seat.gave_way for seat in _seated(places, "aaaa", 4))


def test_sources_come_to_have_equal_numbers() -> None:
    places: Places[Seat] = Places()
    _seated(places, "aaaaaa", 6)
    for sources in ("aaaaab", "aaaabb", "aaabbb", "aaabbb"):
        _seated(places, "b", 6)
        assert _sources(places) == sources
    _seated(places, "c", 6)
    assert _sources(places) in ("aabbbc", "aaabbc")


def test_the_one_idle_longest_goes() -> None:
    places: Places[Seat] = Places()
    first, second, third = _seated(places, "aaa", 3)
    first.used = True
    _seated(places, "b", 3)
    assert [seat.gave_way for seat in (first, second, third)] == [False, True, False]
    assert not first.used
    _seated(places, "a", 3)
    assert [seat.gave_way for seat in (first, third)] == [False, True]


def test_looking_for_an_idle_one_ends() -> None:
    places: Places[Seat] = Places()
    seats = _seated(places, "a" * (2 * LOOKS), 2 * LOOKS)
    for seat in seats:
        seat.used = True
    _seated(places, "b", 2 * LOOKS)
    assert [seat.gave_way for seat in seats].index(True) == LOOKS and sum(seat.gave_way for seat in seats) == 1


def test_leaving_twice_gives_one_place_back() -> None:
    places: Places[Seat] = Places()
    first, _ = _seated(places, "ab", 2)
    places.leave(first)
    places.leave(first)
    assert len(places) == 1
    places.leave(Seat(b"c"))
    assert _sources(places) == "b"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd"), st.integers(0, 9))), st.integers(1, 6))
def test_as_a_plain_list_does_it(steps: list[tuple[bool, str, int]], at_most: int) -> None:
    """Against counting: never more than there are, the newcomer is in, and who had fewer than another lost nothing."""
    places: Places[Seat] = Places()
    seated: list[Seat] = []
    for takes, source, which in steps:
        if takes:
            before = [seat.source for seat in seated]
            full = len(seated) == at_most
            seated += _seated(places, source, at_most)
            gone = [seat for seat in seated if seat.gave_way]
            assert len(gone) == full and seated[-1] not in gone
            for seat in gone:
                assert before.count(seat.source) == max(map(before.count, before))
                seated.remove(seat)
        elif seated:
            places.leave(seated.pop(which % len(seated)))
        assert sorted(map(id, places)) == sorted(map(id, seated)) and len(places) == len(seated)
