"""Speech-like sound with known mouth positions.

A source-filter synthesiser in the manner of D. H. Klatt, "Software for a cascade/parallel formant
synthesizer", JASA 67 (1980): Rosenberg glottal pulses (A. E. Rosenberg, JASA 49, 1971) through a
cascade of second-order resonators, noise for fricatives and bursts, silence for closures. It says
seeded random syllables, and the same score that drives the sound gives the mouth's opening, width
and rounding at every instant.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from actors.demo.phones import (
    CLOSED,
    CONSONANT_SHARES,
    CONSONANTS,
    PAUSE,
    PHONES,
    VOWELS,
    Phone,
)
from actors.types import F32, FPS, SAMPLE_RATE

F64 = NDArray[np.float64]

F0_MIN_HZ = 80.0
F0_MAX_HZ = 250.0
_CONTROL_HZ = 1000  # rate of the score: one value a millisecond
_BLOCK = SAMPLE_RATE // 200  # samples between two updates of the resonators: 5 ms


@dataclass(frozen=True, slots=True)
class Voice:
    """What makes a speaker's voice.

    ``f0_hz``: mean pitch in Hz. ``formants``: factor on all formant frequencies, about 1 /
    (relative vocal tract length). ``rate``: syllables a second, 3 to 5. ``breath``: aspiration
    noise relative to the pulses, 0 to 0.2.
    """

    f0_hz: float = 140.0
    formants: float = 1.0
    rate: float = 4.0
    breath: float = 0.05


@dataclass(frozen=True, slots=True)
class Viseme:
    """A mouth position that is aimed at.

    ``opening`` and ``rounding`` lie in [0, 1], ``width`` in [-1, 1].
    """

    start_s: float
    end_s: float
    name: str
    opening: float
    width: float
    rounding: float


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A sound and the mouth that says it; n = seconds x 25, frame i is the instant i / 25 s."""

    samples: F32  # [seconds * 16000] mono in [-1, 1]
    visemes: list[Viseme]  # consecutive, from 0 to the end
    opening: F32  # [n] lip opening in [0, 1], after coarticulation; 0 = lips closed
    width: F32  # [n] in [-1, 1]: < 0 narrow, > 0 spread
    rounding: F32  # [n] in [0, 1]
    f0_hz: F32  # [n] pitch of the pulses; 0 where the voice is off


_BANDWIDTHS_HZ = (70.0, 100.0, 150.0, 220.0)
_RAMP_S = 0.055  # lips need this long to close or open


@dataclass(frozen=True, slots=True)
class _Segment:
    start: float
    end: float
    name: str
    syllable: int  # -1 in a pause
    phrase: int

    @property
    def phone(self) -> Phone:
        return PHONES[self.name]


def speak(voice: Voice, seconds: float, seed: int) -> Utterance:
    """Say random syllables for ``seconds``; the same arguments give the same utterance.

    Raises:
        ValueError: ``seconds`` is under 1.
    """
    if seconds < 1.0:
        raise ValueError(f"an utterance lasts at least 1 s, not {seconds:g} s")
    rng = np.random.default_rng([seed, 0x7A1C])
    score = _score(voice, seconds, rng)
    time = np.arange(round(seconds * _CONTROL_HZ)) / _CONTROL_HZ
    opening = _opening(score, time)
    width = _smooth(_targets(score, time, "width"), 0.10)
    rounding = _smooth(_targets(score, time, "rounding"), 0.10)
    f0, loudness = _prosody(voice, score, time, rng)
    voicing = _smooth(_targets(score, time, "voicing"), 0.03) * opening_gain(opening) * loudness
    for segment in score:
        if segment.name in CLOSED or segment.name == PAUSE:
            inside = (time >= segment.start + 0.01) & (time < segment.end - 0.01)
            level = segment.phone.voicing if segment.name in CLOSED else 0.0
            voicing[inside] = level * loudness[inside]
    voicing = _smooth(voicing, 0.02)
    samples = _synthesise(voice, score, time, f0=f0, voicing=voicing, rng=rng)
    frames = (np.arange(round(seconds * FPS)) * (_CONTROL_HZ // FPS)).clip(max=len(time) - 1)
    visemes = [
        Viseme(s.start, s.end, s.name, s.phone.opening, s.phone.width, s.phone.rounding)
        for s in score
    ]
    voiced = np.where(voicing > 0.05, f0, 0.0)
    return Utterance(
        samples,
        visemes,
        *(t[frames].astype(np.float32) for t in (opening, width, rounding, voiced)),
    )


def opening_gain(opening: F64) -> F64:
    """Loudness of a voice through a mouth of this opening: a wide mouth radiates more."""
    return np.asarray(0.15 + 0.85 * opening**0.7)


def _score(voice: Voice, seconds: float, rng: np.random.Generator) -> list[_Segment]:
    """Phrases of 5 to 9 consonant-vowel syllables with pauses, filling exactly ``seconds``."""
    score: list[_Segment] = []
    now, syllable, phrase = 0.0, 0, 0
    last_vowel = ""

    def add(name: str, length: float, of: int) -> None:
        nonlocal now
        end = min(round(now + length, 3), seconds)
        if end > now:
            score.append(_Segment(now, end, name, of, phrase))
        now = end

    add(PAUSE, rng.uniform(0.15, 0.3), -1)
    while now < seconds - 0.6:
        for _ in range(int(rng.integers(5, 10))):
            if now > seconds - 0.6:
                break
            length = rng.uniform(0.85, 1.15) / voice.rate
            consonant = str(rng.choice(list(CONSONANTS), p=CONSONANT_SHARES))
            vowel = str(rng.choice([v for v in VOWELS if v != last_vowel]))
            last_vowel = vowel
            onset = min(rng.uniform(0.085, 0.115), 0.45 * length)
            add(consonant, onset, syllable)
            add(vowel, length - onset, syllable)
            syllable += 1
        add(PAUSE, rng.uniform(0.3, 0.55), -1)
        phrase += 1
    if now < seconds:
        add(PAUSE, seconds - now, -1)
    return score


def _targets(score: list[_Segment], time: F64, what: str) -> F64:
    """Return the step function of one property of the score."""
    starts = np.array([s.start for s in score])
    values = np.array([getattr(s.phone, what) for s in score], dtype=np.float64)
    return np.asarray(values[np.searchsorted(starts, time, side="right") - 1])


def _smooth(track: F64, seconds: float) -> F64:
    """Convolve with a Hann window of that full length, without delay; the ends are held."""
    half = max(1, round(seconds * _CONTROL_HZ / 2))
    window = np.hanning(2 * half + 1)
    padded = np.pad(track, half, mode="edge")
    return np.asarray(np.convolve(padded, window / window.sum(), mode="valid"))


def _opening(score: list[_Segment], time: F64) -> F64:
    """Coarticulated lip opening: vowels blend into each other, consonants narrow what is there.

    Vowel targets run through the consonants and are smoothed; each consonant or pause then
    lowers the lips towards its own target by a raised-cosine ramp that starts before it, so a
    closure is complete while it lasts.
    """
    vowels = [s for s in score if s.name in VOWELS]
    middles = [(s.start + s.end) / 2 for s in vowels]
    carrier = np.interp(time, middles, [s.phone.opening for s in vowels])
    opening = _smooth(carrier, 0.08)
    for segment in score:
        if segment.name in VOWELS:
            continue
        ramp = _RAMP_S if segment.name != PAUSE else 1.6 * _RAMP_S
        outside = np.maximum(segment.start - time, time - segment.end) + 0.02
        share = 0.5 + 0.5 * np.cos(np.pi * np.clip(outside / ramp, 0.0, 1.0))
        target = np.minimum(segment.phone.opening, opening)
        opening = opening + share * (target - opening)
    return np.asarray(np.clip(opening, 0.0, 1.0))


def _prosody(
    voice: Voice, score: list[_Segment], time: F64, rng: np.random.Generator
) -> tuple[F64, F64]:
    """Pitch in Hz (declination within a phrase, accents on syllables) and loudness about 1."""
    semitones = np.zeros_like(time)
    loudness = np.ones_like(time)
    for phrase in {s.phrase for s in score}:
        spoken = [s for s in score if s.phrase == phrase and s.syllable >= 0]
        if not spoken:
            continue
        start, end = spoken[0].start, spoken[-1].end
        inside = (time >= start - 0.1) & (time < end + 0.1)
        progress = np.clip((time[inside] - start) / (end - start), 0.0, 1.0)
        semitones[inside] = 2.5 - 5.0 * progress
        loudness[inside] = 1.0 - 0.2 * progress
        for segment in spoken:
            if segment.name in VOWELS:
                middle = (segment.start + segment.end) / 2
                bump = np.exp(-0.5 * ((time - middle) / 0.07) ** 2)
                accent = float(rng.uniform(-0.5, 2.0))
                semitones += accent * bump
                loudness *= 1.0 + 0.05 * accent * bump
    f0 = voice.f0_hz * 2.0 ** (_smooth(semitones, 0.12) / 12.0)
    return np.clip(f0, F0_MIN_HZ, F0_MAX_HZ), loudness


def _synthesise(
    voice: Voice,
    score: list[_Segment],
    time: F64,
    *,
    f0: F64,
    voicing: F64,
    rng: np.random.Generator,
) -> F32:
    """Pulses and noise through the vocal tract: [seconds * 16000] in [-1, 1]."""
    n = len(time) * SAMPLE_RATE // _CONTROL_HZ
    clock = np.arange(n) / SAMPLE_RATE
    pitch = np.interp(clock, time, f0)
    amplitude = np.interp(clock, time, voicing)
    source = _pulses(pitch, rng)
    breath = rng.standard_normal(n) * voice.breath
    sound = _tract(voice, score, time, amplitude * (source + breath))
    sound /= np.abs(sound).max() + 1e-12
    for segment in score:
        _add_noise(sound, segment, voice, rng)
    sound += 2e-4 * rng.standard_normal(n)  # the air of a quiet room
    return np.asarray(0.7 * sound / np.abs(sound).max(), dtype=np.float32)


def _pulses(pitch: F64, rng: np.random.Generator) -> F64:
    """Derivative of Rosenberg's glottal flow at this pitch, 0.6 % jitter per period, RMS 1."""
    cycles = np.cumsum(pitch) / SAMPLE_RATE
    jitter = 0.006 * rng.standard_normal(int(cycles[-1]) + 2)
    cycles = cycles + np.interp(cycles, np.arange(len(jitter)), jitter)
    phase = cycles % 1.0
    rise, fall = 0.42, 0.18  # shares of a period in which the glottis opens and closes
    flow = np.where(
        phase < rise,
        0.5 - 0.5 * np.cos(np.pi * phase / rise),
        np.where(phase < rise + fall, np.cos(0.5 * np.pi * (phase - rise) / fall), 0.0),
    )
    source = np.diff(flow, prepend=0.0)
    return np.asarray(source / np.sqrt(np.mean(source**2)))


def _tract(voice: Voice, score: list[_Segment], time: F64, source: F64) -> F64:
    """Filter by a cascade of resonators whose frequencies move with the score."""
    from scipy.signal import lfilter

    resting = VOWELS["@"].formants
    tracks = []
    for k in range(len(_BANDWIDTHS_HZ)):
        starts = np.array([s.start for s in score])
        values = np.array(
            [(s.phone.formants or _near(score, i, resting))[k] for i, s in enumerate(score)]
        )
        steps = values[np.searchsorted(starts, time, side="right") - 1]
        tracks.append(_smooth(steps, 0.06) * voice.formants)
    sound = source
    for track, bandwidth in zip(tracks, _BANDWIDTHS_HZ, strict=True):
        result = np.empty_like(sound)
        state = np.zeros(2)
        for start in range(0, len(sound), _BLOCK):
            centre = track[min(start * _CONTROL_HZ // SAMPLE_RATE, len(track) - 1)]
            b, a = resonator(float(centre), bandwidth)
            piece = slice(start, start + _BLOCK)
            result[piece], state = lfilter(b, a, sound[piece], zi=state)
        sound = result
    return sound


def _near(score: list[_Segment], i: int, resting: tuple[float, ...]) -> tuple[float, ...]:
    """Formants of the vowel after a consonant without its own: the mouth already moves there."""
    following = score[i + 1].phone.formants if i + 1 < len(score) else ()
    return following or resting


def resonator(centre_hz: float, bandwidth_hz: float) -> tuple[F64, F64]:
    """Coefficients (b, a) of Klatt's digital resonator: gain 1 at 0 Hz, a peak at ``centre_hz``."""
    r = np.exp(-np.pi * bandwidth_hz / SAMPLE_RATE)
    a1 = -2.0 * r * np.cos(2.0 * np.pi * min(centre_hz, 0.47 * SAMPLE_RATE) / SAMPLE_RATE)
    a = np.array([1.0, a1, r * r])
    return np.array([a.sum()]), a


def _add_noise(sound: F64, segment: _Segment, voice: Voice, rng: np.random.Generator) -> None:
    """Add a fricative's hiss, or a plosive's burst of 15 ms at its release, in place."""
    from scipy.signal import butter, sosfilt

    phone = segment.phone
    if phone.noise == 0.0:
        return
    start, end = segment.start, segment.end
    if phone.burst:
        start, end = segment.end - 0.005, segment.end + 0.010
    first, last = round(start * SAMPLE_RATE), min(round(end * SAMPLE_RATE), len(sound))
    if last - first < 32:
        return
    centre = phone.noise_hz * voice.formants
    low = max(100.0, centre - phone.noise_bandwidth_hz / 2)
    high = min(0.49 * SAMPLE_RATE, centre + phone.noise_bandwidth_hz / 2)
    band = butter(2, [min(low, 0.8 * high), high], btype="bandpass", fs=SAMPLE_RATE, output="sos")
    noise = sosfilt(band, rng.standard_normal(last - first))
    noise *= np.hanning(last - first) if not phone.burst else np.linspace(1.0, 0.0, last - first)
    sound[first:last] += phone.noise * noise / (np.sqrt(np.mean(noise**2)) + 1e-12)
