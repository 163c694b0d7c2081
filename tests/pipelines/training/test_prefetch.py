"""Items made ahead in a thread: the same items, errors in their place, nothing left running."""

import threading
from collections.abc import Iterator

import pytest

from pipelines.training.prefetch import prefetched


def ours() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "prefetch"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_order_and_number_are_kept(count: int, ahead: int) -> None:
    assert list(prefetched(iter(range(count)), ahead)) == list(range(count))
    assert not ours()


def test_none_and_errors_as_items_are_items_like_any_other() -> None:
    items = [None, "error", "end", ("end", None), ValueError("an item, not an error")]
    found = prefetched(items)
    assert [next(found) for _ in items[:4]] == items[:4]
    assert next(found) is items[4]


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    found = prefetched(items())
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(found)
    assert not ours()


def test_the_source_is_made_in_another_thread_and_not_far_ahead() -> None:
    made: list[int] = []
    threads: set[int] = set()
    third = threading.Event()

    def items() -> Iterator[int]:
        for i in range(100):
            threads.add(threading.get_ident())
            made.append(i)
            if i == 3:
                third.set()
            yield i

    found = prefetched(items(), 2)
    assert next(found) == 0
    assert third.wait(20)  # one taken, two in the queue, the fourth waits for room
    assert made == [0, 1, 2, 3]
    assert threads == {t.ident for t in ours()} != {threading.get_ident()}
    found.close()  # type: ignore[attr-defined]
    assert not ours()
    assert len(made) <= 5


def test_a_consumer_that_stops_early_ends_the_thread() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            for i in range(1000):  # noqa: UP028 - the generator's end is what is watched
                yield i
        finally:
            closed.set()

    source = items()
    for item in prefetched(source):
        if item == 5:
            break
    del source
    assert closed.wait(20)
    assert not ours()
