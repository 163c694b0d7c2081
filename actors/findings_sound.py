"""Faults of the sound, from the descriptors (how much) and the low-level stream (where)."""

from typing import Final

import numpy as np

from actors.findings_clip import Clip
from actors.findings_kinds import Finding, finding
from actors.sound_frames import runs

# Clean: 0, in speech over loud music behind a limiter 0.54 %. Clipped by 2 %: 1.7 to 2.6 %, by 8 %:
# 7 to 10 %, through AAC too.
LEAST_CLIPPING: Final = 0.008
# Clean: none at all; drop-outs of 20 to 200 ms: 1.4 to 18 % of the spoken time.
LEAST_DROPOUT: Final = 0.004
# Digital silence, which a recorded pause never is.
DIGITAL_SILENCE_DB: Final = -80.0
LONGEST_DROP_S: Final = 1.5  # a longer one is a pause or the end of the sound
MOST_OTHER_SILENCE_S: Final = 0.12  # outside the gaps, in sound that is never silent by itself
GROUP_S: Final = 1.0  # drop-outs closer than this are one finding
LOUD_BELOW_PEAK_DB: Final = 20.0  # speech that breaks off is within this below the loud parts
# Clean recordings: 22.4 dB and more; white noise at 10 dB reads 8.5 to 12.9 dB.
LEAST_SNR_DB: Final = 17.0
# Clean: 5.1 kHz and more (over pauses and vowels only); telephone sound ends at 3.4 kHz.
LEAST_BANDWIDTH_HZ: Final = 4000.0
LEAST_SPEECH_S: Final = 2.0  # for the bandwidth: few syllables may have no hiss in them
LEAST_SPEECH_SHARE: Final = 0.3  # of the clip: with less, the spectrum is that of few syllables
# Clean: -31 LUFS and more; broadcast is -23, streaming -14 to -18.
LEAST_LOUDNESS_LUFS: Final = -42.0
LEAST_SILENCE_S: Final = 0.5  # without a sound track, at the ends of the video too
LEAST_DIGITAL_SILENCE_S: Final = 2.0  # between sentences, dubbed sound may be silent for a second


def find_sound(clip: Clip) -> list[Finding]:
    """All faults of the sound of a clip."""
    return [
        *_silence(clip),
        *_dropouts(clip),
        *_clipping(clip),
        *_quality(clip),
    ]


def _silence(clip: Clip) -> list[Finding]:
    """Sound that is not there: no track, a track that ends early, digital silence."""
    found = []
    missing = ~clip.audible
    silent = missing.copy()
    if clip.lowlevel is not None:
        silent |= clip.stream("energy") <= DIGITAL_SILENCE_DB
    elif clip.values and clip.value("loudness_dbfs") is None:
        silent[:] = True  # a track with nothing on it
    for first, last in runs(silent):
        start, end = clip.span(first, last)
        absent = float(missing[first:last].sum()) * clip.period_s
        if absent >= LEAST_SILENCE_S or end - start >= LEAST_DIGITAL_SILENCE_S - 1e-6:
            found.append(finding("no_sound", (start, end), end - start))
        elif last - first == clip.frames:
            found.append(finding("no_sound", clip.whole, end - start))
    return found


def _dropouts(clip: Clip) -> list[Finding]:
    """Speech broken off by digital silence: gated by the descriptor, placed by the stream."""
    share, spoken = clip.value("dropout_share"), clip.value("speech_share")
    if clip.lowlevel is None:
        if share is None or spoken is None or share < LEAST_DROPOUT:
            return []
        return [finding("dropout", clip.whole, share * spoken * (clip.end_s - clip.start_s))]
    level = clip.stream("energy")
    sounding = level[clip.audible & (level > DIGITAL_SILENCE_DB)]
    if not sounding.size:
        return []
    loud = float(np.percentile(sounding, 95)) - LOUD_BELOW_PEAK_DB
    gaps = []
    for first, last in runs(clip.audible & (level <= DIGITAL_SILENCE_DB)):
        seconds = (last - first) * clip.period_s
        # The frames beside a gap are partly silent: look two to each side.
        before, after = level[max(0, first - 2) : first], level[last : last + 2]
        broken = before.size and after.size and min(before.max(), after.max()) > loud
        if broken and seconds <= LONGEST_DROP_S:
            gaps.append((first, last))
    total = 0.0 if share is None or spoken is None else share * spoken * clip.frames * clip.period_s
    known = share is not None and share >= LEAST_DROPOUT
    long = [gap for gap in gaps if (gap[1] - gap[0]) * clip.period_s >= LEAST_SILENCE_S]
    if not known:
        # The descriptor sees gaps up to 0.5 s only. Longer ones may be pauses of a synthetic voice:
        # they count where the sound's other pauses are not digital silence.
        other = (clip.audible & (level <= DIGITAL_SILENCE_DB)).sum() - sum(b - a for a, b in long)
        gaps = long if other * clip.period_s <= MOST_OTHER_SILENCE_S else []
    if known and not gaps:  # all shorter than two frames
        return [finding("dropout", clip.whole, total)]
    groups: list[list[tuple[int, int]]] = []
    for gap in gaps:
        if groups and (gap[0] - groups[-1][-1][1]) * clip.period_s <= GROUP_S:
            groups[-1].append(gap)
        else:
            groups.append([gap])
    seconds_of = [sum(b - a for a, b in group) * clip.period_s for group in groups]
    # What the frames miss of short gaps is shared out.
    scale = max(1.0, total / sum(seconds_of)) if groups else 1.0
    return [
        finding("dropout", clip.span(group[0][0], group[-1][1]), scale * seconds)
        for group, seconds in zip(groups, seconds_of, strict=True)
    ]


def _clipping(clip: Clip) -> list[Finding]:
    share = clip.value("clipping_share")
    if share is None or (clip.value("speech_share") or 0.0) < LEAST_SPEECH_SHARE:
        return []
    return [finding("clipping", clip.whole, share)] if share >= LEAST_CLIPPING else []


def _quality(clip: Clip) -> list[Finding]:
    """Level, noise and bandwidth."""
    found = []
    loudness, snr = clip.value("loudness_lufs"), clip.value("snr")
    if loudness is not None and loudness < LEAST_LOUDNESS_LUFS:
        found.append(finding("low_level", clip.whole, loudness))
    spoken = clip.value("speech_share") or 0.0
    if spoken < LEAST_SPEECH_SHARE:
        return found
    if snr is not None and snr < LEAST_SNR_DB:
        found.append(finding("noise", clip.whole, snr))
    bandwidth = clip.value("bandwidth")
    enough = spoken * (clip.end_s - clip.start_s) >= LEAST_SPEECH_S - 1e-6
    if enough and bandwidth is not None and bandwidth < LEAST_BANDWIDTH_HZ:
        found.append(finding("band_limited", clip.whole, bandwidth))
    return found
