"""The lease book: every video ends committed or failed, exactly once, whatever dies."""

import random

from actors.types import VideoRef
from pipelines.leases import MAX_LEASE, MAX_VARIANTS, LeaseBook


def refs(count: int) -> list[VideoRef]:
    return [VideoRef(f"v{i}", f"/corpus/v{i}.mp4") for i in range(count)]


def quick(book: LeaseBook, worker: int = 99) -> None:
    """Teach the book that videos are quick."""
    lease = book.lease(worker)
    assert lease is not None
    ids = [ref.video_id for ref in lease.videos]
    book.finished(worker, lease, ids, 0.001 * len(ids))
    book.commit(worker, ids)


def test_slow_videos_go_one_by_one_and_quick_ones_in_bulk() -> None:
    book = LeaseBook(refs(1000), lease_seconds=1.0)
    first = book.lease(0)
    assert first is not None
    assert len(first.videos) == 1
    assert book.depth() == 1
    book.finished(0, first, ["v0"], seconds=5.0)
    second = book.lease(0)
    assert second is not None
    assert len(second.videos) == 1

    book = LeaseBook(refs(1000), lease_seconds=1.0)
    quick(book)
    lease = book.lease(0)
    assert lease is not None
    assert len(lease.videos) == MAX_LEASE
    assert book.depth() == 2


def test_the_source_is_read_only_as_fast_as_it_is_handed_out() -> None:
    read = []

    def source():  # type: ignore[no-untyped-def]
        for ref in refs(100):
            read.append(ref)
            yield ref

    book = LeaseBook(source())
    book.lease(0)
    assert len(read) == 2  # one ahead: it might be another variant of the same source


def test_a_death_returns_spooled_and_waiting_videos_without_blame() -> None:
    book = LeaseBook(refs(10), lease_seconds=1.0)
    one = book.lease(0)
    assert one is not None
    book.finished(0, one, ["v0"], seconds=0.4)
    running, waiting = book.lease(0), book.lease(0)
    assert running is not None
    assert waiting is not None
    suspects = [ref.video_id for ref in running.videos]
    assert book.died(0, published=set()) == []
    # Suspects come first and alone; everything else follows.
    for video_id in suspects:
        lease = book.lease(1)
        assert lease is not None
        assert [ref.video_id for ref in lease.videos] == [video_id]
    lease = book.lease(1)
    assert lease is not None
    assert lease.videos[0].video_id == "v0"
    assert book.attempts("v0") == 0


def test_the_one_that_kills_is_given_up_and_its_neighbours_are_not() -> None:
    book = LeaseBook(refs(50), max_attempts=2)
    quick(book)
    worker, killed = 1, []
    while True:
        lease = book.lease(worker)
        if lease is None:
            break
        ids = [ref.video_id for ref in lease.videos]
        if "v7" in ids:
            killed += [(ref.video_id, n) for ref, n in book.died(worker, set())]
            worker += 1
            continue
        book.finished(worker, lease, ids, 0.001)
        book.commit(worker, ids)
    assert killed == [("v7", 2)]
    assert book.committed == 49
    assert book.failed == 1
    assert book.open == 0


def test_what_was_published_before_the_death_is_not_done_again() -> None:
    book = LeaseBook(refs(2))
    a = book.lease(0)
    assert a is not None
    book.finished(0, a, ["v0"], 5.0)
    b = book.lease(0)
    assert b is not None
    assert book.died(0, published={"v0", "v1"}) == []
    assert book.committed == 2
    assert book.lease(1) is None
    assert book.open == 0


def test_random_deaths_lose_nothing_and_double_nothing() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        book = LeaseBook(refs(60), max_attempts=3, lease_seconds=rng.choice([0.5, 5.0]))
        poison = {f"v{rng.randrange(60)}" for _ in range(3)}
        committed: list[str] = []
        failed: list[str] = []
        spools: dict[int, list[str]] = {w: [] for w in range(3)}
        queues: dict[int, list] = {w: [] for w in range(3)}
        fresh = 3
        while not (book.nothing_to_hand_out and book.open == 0):
            worker = rng.choice(list(spools))
            while book.leases_of(worker) < book.depth():
                lease = book.lease(worker)
                if lease is None:
                    break
                queues[worker].append(lease)
            if queues[worker]:
                lease = queues[worker][0]
                ids = [ref.video_id for ref in lease.videos]
                if poison & set(ids) or (rng.random() < 0.1 and len(ids) > 1):
                    failed += [ref.video_id for ref, _ in book.died(worker, set())]
                    del spools[worker], queues[worker]
                    spools[fresh], queues[fresh] = [], []
                    fresh += 1
                    continue
                queues[worker].pop(0)
                book.finished(worker, lease, ids, rng.choice([0.1, 10.0]))
                spools[worker] += ids
            if spools[worker] and rng.random() < 0.5:
                book.commit(worker, spools[worker])
                committed += spools[worker]
                spools[worker] = []
        assert sorted(committed + failed) == sorted(f"v{i}" for i in range(60))
        assert set(failed) == poison


# --- variants of a source


def variants(sources: int, each: int) -> list[VideoRef]:
    return [
        VideoRef(f"s{s}/v{v}", f"/corpus/s{s}.mp4", source=f"s{s}")
        for s in range(sources)
        for v in range(each)
    ]


def test_variants_of_a_source_stay_together() -> None:
    book = LeaseBook([*variants(3, 5), *refs(2), *variants(1, 2)])
    found = []
    while (lease := book.lease(0)) is not None:
        found.append([ref.source for ref in lease.videos])
        book.finished(0, lease, [ref.video_id for ref in lease.videos], 100.0)
    # Videos of no source are nobody's variants.
    assert found == [["s0"] * 5, ["s1"] * 5, ["s2"] * 5, [None], [None], ["s0"] * 2]


def test_a_source_with_many_variants_is_shared_out() -> None:
    book = LeaseBook(variants(1, 2 * MAX_VARIANTS + 3))
    sizes = []
    while (lease := book.lease(len(sizes))) is not None:
        sizes.append(len(lease.videos))
    assert sizes == [MAX_VARIANTS, MAX_VARIANTS, 3]


def test_quick_leases_end_with_a_source_where_they_can() -> None:
    book = LeaseBook([*refs(1), *variants(400, 7)], lease_seconds=0.1)
    quick(book)
    lease = book.lease(0)
    assert lease is not None
    assert 100 <= len(lease.videos) <= MAX_LEASE
    following = book.lease(1)
    assert following is not None
    both = [ref.video_id for ref in (*lease.videos, *following.videos)]
    assert both == [ref.video_id for ref in variants(400, 7)][: len(both)]


def test_random_deaths_lose_no_variant_and_double_none() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        listing = variants(6, 9)
        book = LeaseBook(listing, max_attempts=3, lease_seconds=rng.choice([0.5, 5.0]))
        poison = {rng.choice(listing).video_id for _ in range(3)}
        committed: list[str] = []
        failed: list[str] = []
        worker = 0
        while not (book.nothing_to_hand_out and book.open == 0):
            lease = book.lease(worker)
            assert lease is not None
            ids = [ref.video_id for ref in lease.videos]
            assert len(ids) <= max(MAX_VARIANTS, book.lease_size())
            if poison & set(ids) or (len(ids) > 1 and rng.random() < 0.2):
                failed += [ref.video_id for ref, _ in book.died(worker, set())]
                worker += 1
                continue
            book.finished(worker, lease, ids, rng.choice([0.1, 10.0]) * len(ids))
            book.commit(worker, ids)
            committed += ids
        assert sorted(committed + failed) == sorted(ref.video_id for ref in listing)
        assert set(failed) == poison
