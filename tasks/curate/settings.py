"""Settings of room `curate`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.pii.settings import PiiSettings
from tasks.runtime.base_settings import Processes, Settings

Share = Annotated[float, Field(ge=0, lt=1)]


class QualitySettings(Settings):
    """Filters by statistics of the text. Each is off unless it is set."""

    languages: tuple[Literal["en", "zh", "mixed"], ...] = ()
    """Allowed languages; any, where the list is empty. `mixed`: a dialogue whose users write in both."""
    min_length_ratio: Annotated[float, Field(ge=0)] | None = None
    """Shortest output, as a share of the input's segments."""
    max_length_ratio: Annotated[float, Field(gt=0)] | None = None
    """Longest output, as a multiple of the input's segments."""
    max_repetition: Share | None = None
    """Largest share of the output's token runs that repeat an earlier one."""
    max_symbol_share: Share | None = None
    """Largest share of the output's characters that are neither letters, digits nor spaces."""
    refusals: Literal["drop", "keep"] = "keep"
    """Answers that decline ("As an AI language model, I cannot ...", "作为一个人工智能语言模型，我无法……")."""
    toxic_words: Literal["drop", "keep"] = "keep"
    """Rows that hold a word of the list in tasks/curate/cleaning/quality.py."""


class CurateSettings(Settings):
    valid_share: Share = 0.1
    """Share of rows held out for early stopping and perplexity."""
    test_share: Share = 0.2
    """Share of rows held out for the gate. They are never trained on."""
    split_salt: str = "strop"
    """Salt of the split. Changing it moves rows between splits: every earlier comparison is then void."""
    near_duplicates: Literal["drop", "keep", "off"] = "drop"
    """A row that repeats prompt and answer of an earlier row in other wording: `drop` it, or `keep` it in the earlier row's split.
    A row with a similar prompt that asks for something else (another name, number or symbol), or with another answer, is kept in
    the earlier row's split in either case. `off` does not detect near-duplicates."""
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.8
    """The Jaccard similarity of two texts' three-token shingles from which they are near. Text that more than ten similar rows have
    in common, such as a fixed instruction, does not count."""
    conflicts: Literal["keep", "newest", "refuse"] = "keep"
    """Several answers of one source to the same prompt: `keep` all, keep the `newest`, or `refuse` those after the first.
    `strop data conflicts` lists them."""
    decontaminate: bool = True
    """Keep rows that share text in one split, and drop from training every row that shares text with a golden or benchmark row.
    Shared text is a question with its answer, a run of 24 tokens, or one of 13 that is half of a prompt."""
    common_passage_rows: Annotated[int, Field(ge=2)] = 20
    """A run of 13 to 23 tokens in more rows than this is boilerplate and links no rows; so is a longer one in more than five times
    as many. A run in three of four rows of a source is the template of that source."""
    common_passage_share: Annotated[float, Field(ge=0, le=1)] = 0.02
    """A run of 24 tokens is boilerplate only if it is also in more than this share of all rows."""
    markup: Literal["remove", "keep"] = "remove"
    """Markup left over from a web page, in rows that are HTML throughout and not about markup: `remove` its tags and entities, or
    `keep` them where tags are to be learnt."""
    pii: PiiSettings = PiiSettings()
    """Personal data and secrets."""
    quality: QualitySettings = QualitySettings()
    """Quality filters."""
    processes: Processes | None = None
    """Processes that work on one batch; by default one per core, or as many as the CPU quota allows. The result does not depend on
    it."""

    @model_validator(mode="after")
    def something_is_left_to_train_on(self) -> "CurateSettings":
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share together leave nothing to train on; their sum must be below 1")
        return self
