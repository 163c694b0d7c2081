import numpy as np
import pytest

from actors.findings import KINDS, Finding, find, join
from actors.findings_kinds import TABLE, finding, grade_of
from tests.actors.finding_rows import column, row


def only(made, kind):
    """The one finding of a row; nothing else may be claimed."""
    found = find(made)
    assert [f.kind for f in found] == [kind], found
    return found[0]


# --- clean


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("frames", [30, 75, 150])
def test_nothing_is_claimed_of_a_clean_clip(seed, frames):
    assert find(row(seed=seed, frames=frames)) == []


def test_without_the_optional_columns_nothing_is_claimed_and_nothing_breaks():
    made = row()
    for name in ("lowlevel", "landmarks", "descriptors"):
        del made[name]
    assert find(made) == []
    made["descriptors"] = dict.fromkeys(row()["descriptors"])
    made["descriptors"]["loudness_dbfs"] = -20.0
    assert find(made) == [], "null is no claim"


def test_a_row_read_back_from_a_shard_tells_the_same():
    made = row()
    made["descriptors"]["snr"] = 8.0
    column(made, "frame_difference")[50:80] = 0.0
    made["descriptors"]["longest_freeze"] = 1.24
    back = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in made.items()
    }
    assert find(back) == find(made) != []


# --- sound


@pytest.mark.parametrize(
    ("name", "value", "kind", "words"),
    [
        ("clipping_share", 0.03, "clipping", "clipping 3.0 %"),
        ("clipping_share", 0.12, "clipping", "clipping 12 %"),
        ("snr", 9.6, "noise", "speech 10 dB above the noise"),
        ("bandwidth", 3400.0, "band_limited", "3400 Hz"),
        ("loudness_lufs", -48.0, "low_level", "-48 LUFS"),
    ],
)
def test_descriptors_of_the_sound_speak_for_the_whole_clip(name, value, kind, words):
    made = row(start_s=6.0)
    made["descriptors"][name] = value
    found = only(made, kind)
    assert (found.start_s, found.end_s) == (6.0, 12.0)
    assert words in found.text
    assert found.value == pytest.approx(
        made["descriptors"]["clipping_share"] if kind == "clipping" else value
    )


def test_the_bandwidth_of_a_few_syllables_is_not_judged():
    made = row(frames=75)
    made["descriptors"].update(bandwidth=2500.0, speech_share=0.6)
    assert find(made) == [], "1.8 s of speech"
    made["descriptors"]["speech_share"] = 0.7
    assert only(made, "band_limited").value == 2500.0, "2.1 s"


@pytest.mark.parametrize("name", ["clipping_share", "snr", "bandwidth"])
def test_a_clip_without_speech_is_not_judged_by_measures_of_speech(name):
    made = row()
    made["descriptors"].update({name: 0.05 if name == "clipping_share" else 2.0})
    made["descriptors"]["speech_share"] = 0.1
    assert find(made) == []


def test_dropouts_are_placed_where_speech_turns_into_digital_silence():
    made = row(start_s=12.0, seed=3)
    level = column(made, "energy")
    level[:150] = np.maximum(level[:150], -25)
    gaps = [(40, 42), (50, 54), (110, 113)]
    for first, last in gaps:
        level[first:last] = -100
    made["descriptors"]["dropout_share"] = 0.09
    found = find(made)
    assert [f.kind for f in found] == ["dropout", "dropout"]
    spans = sorted((f.start_s, f.end_s) for f in found)
    assert spans == [pytest.approx((13.6, 14.16)), pytest.approx((16.4, 16.52))]
    total = 0.09 * 0.8 * 6.0
    assert sum(f.value for f in found) == pytest.approx(total), "the descriptor says how much"


def test_silence_in_which_speech_has_died_away_is_a_pause():
    made = row()
    level = column(made, "energy")
    level[:150] = -25
    level[60:70] = [-35, -45, -55, -65, -100, -100, -65, -55, -45, -35]
    assert find(made) == []


def test_sound_that_is_gone_for_a_second_counts_unless_all_pauses_are_digital_silence():
    made = row()
    level = column(made, "energy")
    level[:150] = -25
    level[60:85] = -100
    found = only(made, "dropout")
    assert (found.start_s, found.end_s) == pytest.approx((2.4, 3.4))
    level[0:6] = level[140:146] = -100  # a synthetic voice
    assert find(made) == []


def test_no_sound():
    made = row()
    made["audio_mask"][:] = False
    made["lowlevel"][:, :56] = 0.0
    made["descriptors"].update(
        dict.fromkeys(("loudness_dbfs", "loudness_lufs", "speech_share", "snr"))
    )
    found = only(made, "no_sound")
    assert (found.start_s, found.end_s, found.value) == (0.0, 6.0, 6.0)

    made = row()
    made["audio_mask"][110:] = False
    made["lowlevel"][110:, :56] = 0.0
    assert only(made, "no_sound").start_s == pytest.approx(4.4), "a track that ends early"

    made = row()
    column(made, "energy")[:] = -100
    made["descriptors"].update(dict.fromkeys(("speech_share", "snr")))
    assert only(made, "no_sound").value == pytest.approx(6.0), "digital silence"


# --- picture


def test_a_freeze_begins_with_the_picture_that_is_repeated():
    made = row()
    column(made, "frame_difference")[31:56] = 0.02
    column(made, "lip_opening")[30:56] = 0.1
    column(made, "lip_width")[30:56] = 0.6
    made["descriptors"].update(
        longest_freeze=1.04, frozen_share=1.04 / 6, duplicated_share=25 / 149
    )
    found = only(made, "picture_frozen")
    assert (found.start_s, found.end_s) == pytest.approx((1.2, 2.24))
    assert found.text == "picture frozen for 1.0 s", "and not the mouth besides"


def test_small_changes_of_a_large_picture_are_no_freeze():
    made = row()
    column(made, "frame_difference")[:] = 0.05
    assert find(made) == []


def test_repeats_that_fill_the_grid_of_a_slow_source_are_no_freeze():
    made = row()
    column(made, "frame_difference")[1::2] = 0.0
    made["descriptors"].update(longest_freeze=0.0, duplicated_share=0.0)
    assert find(made) == []


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("flicker_luma", 1.1, "flicker"),
        ("flicker_chroma", 0.9, "flicker"),
        ("blockiness", 2.0, "blockiness"),
        ("duplicated_share", 0.5, "duplicated_frames"),
    ],
)
def test_descriptors_of_the_picture(name, value, kind):
    made = row()
    made["descriptors"][name] = value
    assert only(made, kind).value == pytest.approx(value)


def test_black_or_broken_frames():
    made = row()
    made["frame_mask"][70:80] = made["face_mask"][70:80] = False
    made["lowlevel"][70:80] = 0.0
    column(made, "energy")[70:80] = -25
    found = only(made, "no_picture")
    assert (found.start_s, found.end_s) == pytest.approx((2.8, 3.2))


# --- words and joining


def test_every_kind_is_described_and_graded_within_0_and_1():
    assert set(KINDS) == set(TABLE)
    for kind, entry in TABLE.items():
        assert entry.doc
        assert grade_of(kind, entry.mild) == pytest.approx(0.2)
        assert grade_of(kind, entry.grave) == pytest.approx(1.0)
        beyond = entry.grave + 3 * (entry.grave - entry.mild)
        assert grade_of(kind, beyond) == 1.0


def test_adjoining_spans_of_two_clips_become_one():
    clips = [
        [finding("mouth_frozen", (5.2, 6.0), 0.8), finding("clipping", (0.0, 6.0), 0.02)],
        [finding("mouth_frozen", (6.0, 7.0), 1.0), finding("clipping", (6.0, 8.0), 0.06)],
    ]
    mouth, clipping = sorted(join(clips), key=lambda f: f.kind, reverse=True)
    assert (mouth.start_s, mouth.end_s, mouth.value) == pytest.approx((5.2, 7.0, 1.8))
    assert mouth.text == "mouth frozen for 1.8 s while the speech goes on"
    assert (clipping.start_s, clipping.end_s) == (0.0, 8.0)
    assert clipping.value == pytest.approx((6 * 0.02 + 2 * 0.06) / 8)
    assert clipping.text == "clipping 3.0 %"


def test_overlapping_clips_do_not_count_time_twice():
    (found,) = join(
        [[finding("no_sound", (0.0, 6.0), 6.0)], [finding("no_sound", (3.0, 9.0), 6.0)]]
    )
    assert (found.start_s, found.end_s, found.value) == (0.0, 9.0, 9.0)


def test_sound_lost_in_overlapping_clips_is_counted_once():
    gap = finding("dropout", (4.0, 5.0), 0.3)
    (found,) = join([[gap], [gap]])
    assert found == gap, "the same second, seen by two clips"
    # 0.2 s lost in 1 s, seen in full by the first clip and from its middle on by the second.
    (found,) = join([[finding("dropout", (4.0, 5.0), 0.2)], [finding("dropout", (4.5, 5.5), 0.4)]])
    assert (found.start_s, found.end_s) == (4.0, 5.5)
    assert found.value == pytest.approx(0.1 + 0.2 + 0.2)
    (found,) = join([[finding("dropout", (4.0, 5.0), 0.2)], [finding("dropout", (5.05, 6.0), 0.4)]])
    assert found.value == pytest.approx(0.6), "apart, they add up"
    (found,) = join([[finding("dropout", (4.0, 4.1), 0.3)], [finding("dropout", (4.1, 4.2), 0.3)]])
    assert found.value == pytest.approx(0.2), "no more than there is time"


def test_distant_spans_stay_apart_and_the_most_severe_comes_first():
    short, long = finding("no_face", (0.0, 0.4), 0.4), finding("no_face", (3.0, 6.0), 3.0)
    assert join([[short, long]]) == [long, short]
    assert join([]) == join([[], []]) == []


def test_joining_again_changes_nothing():
    clips = [[finding("noise", (0.0, 6.0), 9.0)], []]
    once = join(clips)
    assert join([once]) == once


def offset(at: int, seconds: float) -> Finding:
    return Finding("av_offset", 6.0 * at, 6.0 * at + 6, seconds, 0.5, f"{seconds:g}")


def test_an_offset_is_the_median_of_the_clips_that_agree():
    told = [0.2, 0.22, None, 0.16, -0.5]
    clips = [[] if s is None else [offset(i, s)] for i, s in enumerate(told)]
    found = join(clips)
    assert [(f.start_s, f.end_s) for f in found] == [(0.0, 12.0), (18.0, 24.0)]
    assert {f.value for f in found} == {0.2}, "the median of those that agree speaks for all"
    assert {f.text for f in found} == {"0.2"}


def test_an_offset_is_claimed_of_the_clips_that_tell_it_only():
    found = join([[offset(0, 0.2)], [], [], [offset(3, 0.22)]])
    assert [(f.start_s, f.end_s) for f in found] == [(0.0, 6.0), (18.0, 24.0)]
    assert join([[offset(0, 0.2)], [], [], [offset(3, 0.22)], []]) == [], "two of five"
    assert join([[offset(0, 0.2)], []]) == [offset(0, 0.2)], "one of two"


def test_clips_that_do_not_agree_name_no_offset():
    assert join([[offset(0, 0.3)], [], []]) == []
    assert join([[offset(0, 0.3)], [offset(1, -0.4)], [offset(2, 0.05)], []]) == []


def test_an_offset_that_begins_in_the_middle_or_drifts_is_told_where_it_is():
    clips = [[] for _ in range(8)]
    for i, seconds in ((5, 0.12), (6, 0.2), (7, 0.28)):
        clips[i] = [offset(i, seconds)]
    (found,) = join(clips)
    assert (found.start_s, found.end_s, found.value) == (30.0, 48.0, 0.2)
