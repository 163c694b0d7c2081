"""What listing a corpus saw, for a person to know."""

from collections import Counter
from dataclasses import dataclass, field

from pipelines.since import shown
from pipelines.uris import display_text


@dataclass(slots=True)
class CorpusReport:
    """What the listing saw; filled while it runs."""

    videos: int = 0
    unmatched: int = 0  # videos to which the pattern does not apply
    unmatched_example: str = ""
    ignored: Counter[str] = field(default_factory=Counter)  # other files by suffix
    hidden: int = 0
    since: float | None = None  # seconds since 1970
    older: int = 0  # videos left out because they were modified before ``since``
    undated: int = 0  # videos kept although nobody knows when they were modified

    def is_old(self, modified: float | None) -> bool:
        """Say whether a video is left out by its time of modification, and count it."""
        if self.since is None:
            return False
        if not modified:
            self.undated += 1
            return False
        old = modified < self.since
        self.older += old
        return old

    def warnings(self) -> list[str]:
        """Return what a person should know, a sentence each."""
        found = []
        if self.since is not None and self.older:
            found.append(
                f"{self.older} of {self.older + self.videos} videos were modified before "
                f"{shown(self.since)} and are left out"
            )
        if self.undated:
            found.append(
                f"{self.undated} of {self.videos} videos have no known time of modification and "
                "are kept in spite of --since (a manifest may give it in its column modified)"
            )
        if self.unmatched:
            found.append(
                f"{self.unmatched} of {self.videos} videos do not match the pattern and have no "
                f"generator or speaker, such as {display_text(self.unmatched_example)}"
            )
        if self.ignored:
            kinds = ", ".join(
                f"{n} {display_text('.' + s if s else 'without suffix', 20)}"
                for s, n in self.ignored.most_common(5)
            )
            found.append(
                f"{sum(self.ignored.values())} files are no videos by their suffix: {kinds}"
            )
        return found
