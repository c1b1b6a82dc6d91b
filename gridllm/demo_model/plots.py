"""The plots of the stories: linked slots, and beats with several wordings each.

A row of linked slots is drawn once per story, so a later beat talks of the same thing as an earlier one and the
consequence fits its cause. `{name}` and `{friend}` are the two characters, `{he}` and `{fhe}` their pronouns, `{ref}`
the place.
"""

from dataclasses import dataclass

from gridllm.demo_model.plots_of_deeds import PLOTS_OF_DEEDS
from gridllm.demo_model.plots_of_luck import PLOTS_OF_LUCK
from gridllm.demo_model.plots_of_trouble import PLOTS_OF_TROUBLE

__all__ = ["PLOTS", "Plot"]


@dataclass(frozen=True, slots=True)
class Plot:
    """One kind of story.

    `fields` names the columns of `rows`; each beat is one sentence or two, in several wordings; `lesson` may end it.
    """

    fields: tuple[str, ...]
    lesson: str
    rows: tuple[tuple[str, ...], ...]
    beats: tuple[tuple[str, ...], ...]


def _plot(fields: str, lesson: str, rows: str, *beats: str) -> Plot:
    """A plot from its compact form: one row a line, columns and wordings separated by `|`."""
    split_rows = tuple(tuple(cell.strip() for cell in row.split("|")) for row in rows.strip().splitlines())
    split_beats = tuple(tuple(wording.strip() for wording in beat.split("|")) for beat in beats)
    return Plot(tuple(fields.split()), lesson, split_rows, split_beats)


PLOTS: tuple[Plot, ...] = tuple(_plot(*parts) for parts in (*PLOTS_OF_TROUBLE, *PLOTS_OF_DEEDS, *PLOTS_OF_LUCK))
