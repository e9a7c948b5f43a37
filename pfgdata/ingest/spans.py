"""Which images of which range have been brought: what is left to do, and what a part brings that is new."""

from __future__ import annotations

from collections import defaultdict

from pfgdata.store import Span

__all__ = ["Covered"]


class Covered:
    """Spans added one by one; they may overlap."""

    def __init__(self) -> None:
        self._spans: defaultdict[tuple[str, int], list[tuple[int, int]]] = defaultdict(list)

    def add(self, span: Span) -> int:
        """Note that `span` is brought; how many of its images were not before."""
        fresh = sum(gap.stop - gap.start for gap in self.gaps(span))
        self._spans[span.plan, span.number].append((span.start, span.stop))
        return fresh

    def gaps(self, span: Span) -> list[Span]:
        """The parts of `span` that nothing has brought yet."""
        gaps, at = list[Span](), span.start
        for start, stop in sorted(self._spans.get((span.plan, span.number), [])):
            if at < min(start, span.stop):
                gaps.append(span._replace(start=at, stop=min(start, span.stop)))
            at = max(at, stop)
        if at < span.stop:
            gaps.append(span._replace(start=at))
        return gaps
