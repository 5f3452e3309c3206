"""Settings of room `curate`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.settings import Processes, Settings

Share = Annotated[float, Field(ge=0, lt=1)]
Policy = Literal["refuse", "mask", "allow"]


class PiiSettings(Settings):
    """What is done with personal data and secrets: `refuse` the row, `mask` them with a typed placeholder, or `allow` them."""

    email: Policy = "mask"
    """E-mail addresses."""
    phone: Policy = "mask"
    """Telephone numbers."""
    card: Policy = "mask"
    """Payment card numbers, by their check digit."""
    iban: Policy = "mask"
    """Bank account numbers, by their check digits."""
    ip: Policy = "allow"
    """IP addresses."""
    national_id: Policy = "mask"
    """Numbers of identity cards and social security."""
    secret: Policy = "mask"
    """API keys, tokens and private keys."""


class QualitySettings(Settings):
    """Filters on what the text is like. Each is off unless it is set."""

    languages: tuple[Literal["en", "zh"], ...] = ()
    """Languages that may be; any, where the list is empty."""
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
    """Rows that hold a word of the list in tasks/curate/words.py."""


class CurateSettings(Settings):
    valid_share: Share = 0.1
    """Share of rows held out for early stopping and perplexity."""
    test_share: Share = 0.2
    """Share of rows held out for the gate. They are never trained on."""
    split_salt: str = "strop"
    """Salt of the split. Changing it moves rows between sides: every earlier comparison is then void."""
    near_duplicates: Literal["drop", "keep", "off"] = "drop"
    """A row whose input, and whose answer, are nearly those of an earlier row: `drop` it, or `keep` it on the earlier one's side.
    With another answer it is kept on the earlier one's side in either case. `off` looks for none."""
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, le=1)] = 0.8
    """Least Jaccard similarity of two texts' three-token shingles that makes them near-duplicates."""
    decontaminate: bool = True
    """Drop from training every row that shares a run of 13 tokens with a test, golden or benchmark row."""
    common_passage_rows: Annotated[int, Field(ge=2)] = 20
    """A passage that stands in more rows than this is a template's boilerplate, not leakage."""
    pii: PiiSettings = PiiSettings()
    """Personal data and secrets."""
    quality: QualitySettings = QualitySettings()
    """What the text is like."""
    processes: Processes | None = None
    """Processes that work on one batch; as many as there are cores, or as the CPU quota allows, where it is null. The result does
    not depend on it."""

    @model_validator(mode="after")
    def something_is_left_to_train_on(self) -> "CurateSettings":
        if self.valid_share + self.test_share >= 1:
            raise ValueError("valid_share and test_share together leave nothing to train on; their sum must be below 1")
        return self
