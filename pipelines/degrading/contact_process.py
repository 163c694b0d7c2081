"""Decoding and damaging for a contact sheet where a crash or a hang does no harm: in a child."""

import io
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from actors.artefacts.artefact import SoundArtefact
from actors.artefacts.chain import Chain, Step
from actors.decode import DecodeConfig
from actors.errors import VideoError
from actors.types import Timings
from pipelines.child_process import end_with_parent
from pipelines.degrading.contact_facts import Film
from pipelines.storage import StorageError, open_uri
from pipelines.uris import strip_text

if TYPE_CHECKING:
    from actors.artefacts.preview import Views

_START_SECONDS = 60.0  # until the process says that it is there: a busy machine imports slowly
_KEPT_MIB = 512  # of decoded pictures; larger excerpts are decoded for each film
_EXCERPT = "excerpt"  # name of the file in memory


@dataclass(frozen=True, slots=True)
class Look:
    """What a source is like.

    Attributes:
        seconds: Length of its excerpt.
        size: Height and width, pixels.
        sound: There is some.
        face: There is one; None when it was not asked for.
        film: Of the excerpt.
    """

    seconds: float
    size: tuple[int, int]
    sound: bool
    face: bool | None
    film: Film


@dataclass(frozen=True, slots=True)
class Made:
    """The films of one artefact; the clean picture at the instant of their stills, its middle."""

    films: tuple[Film, ...]
    clean_still: bytes
    clean_detail: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """What the child shall do.

    Attributes:
        uri: Of the source.
        steps: Of one artefact at ascending severities; empty to look at the source.
        face: When looking: a step that needs a face, or None.
    """

    uri: str
    steps: tuple[Step, ...] = ()
    face: Step | None = None


class Workshop:
    """Does what is asked in a process of its own, which is replaced when it dies or hangs.

    A context manager: leaving it ends the process.

    Args:
        config: Settings of decoding.
        seconds: Length of excerpts.
        work: Runs in the process; another one in tests.
    """

    def __init__(
        self,
        config: DecodeConfig,
        seconds: float,
        work: "Callable[[Connection, DecodeConfig, float], None] | None" = None,
    ) -> None:
        self._config, self._seconds, self._work = config, seconds, work or _work
        self._process: Any = None
        self._pipe: Connection

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def ask(self, request: Request, patience: float) -> Any:
        """Let the process do something.

        Args:
            request: What.
            patience: Seconds after which the process is ended.

        Returns:
            :class:`Look` or :class:`Made`; in trouble a text that says why there is none.
        """
        if self._process is None:
            trouble = self._start()
            if trouble:
                return trouble
        try:
            self._pipe.send(request)
            if self._pipe.poll(patience):
                return self._pipe.recv()
            trouble = f"decoding and damaging it did not end within {patience:.0f} s"
        except (EOFError, OSError):  # OSError: it ended in the middle of a message
            self._process.join(_START_SECONDS)
            trouble = f"the process that made it crashed (exit status {self._process.exitcode})"
        self._end()
        return trouble

    def _start(self) -> str:
        # Spawned, not forked: the driver holds threads and connections that do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=self._work,
            args=(theirs, self._config, self._seconds),
            name="contact-sheet",
            daemon=True,
        )
        self._process.start()
        theirs.close()
        try:
            if self._pipe.poll(_START_SECONDS):
                self._pipe.recv()
                return ""
        except (EOFError, OSError):
            pass
        self._end()
        return "the process that makes the films did not start"

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()  # ours, by its id; it may hang in a decoder that hears nothing else
        self._process.join()
        self._pipe.close()
        self._process = None


def _work(pipe: Connection, config: DecodeConfig, seconds: float) -> None:
    end_with_parent()
    # An interrupt at the terminal reaches both; the driver is the one to answer it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    bench = Bench(config, seconds)
    pipe.send("ready")
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send(bench.do(request))


class Bench:
    """Makes the films of one source after another; in one thread.

    Args:
        config: Settings of decoding.
        seconds: Length of excerpts.
    """

    def __init__(self, config: DecodeConfig, seconds: float) -> None:
        from actors.artefacts.studio import Studio
        from actors.features import FeaturesConfig, PrepareConfig

        self._config, self._seconds = config, seconds
        settings = FeaturesConfig(decode=config, prepare=PrepareConfig(source_mib=_KEPT_MIB))
        self._studio = Studio(settings, self._open)
        self._uri: str | None = None
        self._data = b""
        self._number = 0  # of the source
        self._clean: Views

    def do(self, request: Request) -> Look | Made | str:
        """Answer a request; a text says why the source cannot be used at all."""
        try:
            self._take(request.uri)
            if request.steps:
                return self._row(request.steps)
            return self._look(request.face)
        except VideoError as error:
            return error.message
        except (StorageError, OSError) as error:
            return f"it cannot be opened: {strip_text(str(error))}"

    def _open(self, uri: str) -> BinaryIO:
        return io.BytesIO(self._data) if uri == _EXCERPT else open_uri(uri)

    def _take(self, uri: str) -> None:
        from actors.artefacts.preview import excerpt, views

        if uri == self._uri:
            return
        self._uri = None
        with open_uri(uri) as file:
            self._data = excerpt(file, self._config, uri.rpartition("/")[2], self._seconds)
        self._number += 1
        self._clean = views(self._read(()))
        self._uri = uri

    def _read(self, chain: Chain) -> Any:
        return self._studio.read(_EXCERPT, f"{_EXCERPT} {self._number}", chain, Timings())

    def _look(self, face: Step | None) -> Look:
        reader = self._read(())
        found = None
        if face is not None:
            try:
                found = next(iter(self._read((face,)).frames()), None) is not None
            except VideoError as error:
                if error.reason != "no_face":
                    raise
                found = False
        return Look(
            reader.duration_s,
            (reader.info.height, reader.info.width),
            reader.sound() is not None,
            found,
            self._film(reader, 0.0, self._clean, len(self._clean.small) // 2),
        )

    def _row(self, steps: tuple[Step, ...]) -> Made:
        from actors.artefacts.preview import still, telling_moment, views

        shown: dict[float, Views] = {}
        reasons: dict[float, str] = {}
        for step in steps:
            try:
                untouched = isinstance(step.artefact, SoundArtefact)
                shown[step.severity] = self._clean if untouched else views(self._read((step,)))
            except VideoError as error:
                reasons[step.severity] = error.message
        moment = telling_moment(self._clean.small, [view.small for view in shown.values()])
        films: list[Film] = []
        for step in steps:
            at = step.severity
            try:
                if at in shown:
                    films.append(self._film(self._read((step,)), at, shown[at], moment))
                else:
                    films.append(Film(at, reason=reasons[at]))
            except VideoError as error:  # of the sound
                films.append(Film(at, reason=error.message))
        clean = self._clean
        detail = still(clean.details[moment]) if clean.details else b""
        return Made(tuple(films), still(clean.small[moment]), detail)

    def _film(self, reader: Any, severity: float, shown: "Views", moment: int) -> Film:
        from actors.artefacts.preview import film, spectrogram, still

        sound = reader.sound()
        return Film(
            severity,
            film(shown.small, reader.times, reader.duration_s, sound),
            still(shown.small[moment]),
            b"" if sound is None else still(spectrogram(sound)),
            still(shown.details[moment]) if shown.details else b"",
        )
