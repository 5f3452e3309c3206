"""Settings of the probes."""

from typing import Annotated, Literal

from pydantic import Field

from tasks.runtime.base_settings import Seed, Settings

Robustness = Literal["typos", "case", "paraphrase", "distraction", "injection"]
Bias = Literal["names", "gender", "nationality", "religion", "age"]


class ProbeSettings(Settings):
    robustness: tuple[Robustness, ...] = ("typos", "case", "paraphrase", "distraction", "injection")
    """How the prompts of test rows are changed, with the same target: spelling mistakes; upper or lower case (Chinese: the width
    of punctuation and digits); another template of the family; a text of another row before or after it; an instruction hidden
    in it. The drop of the score is reported."""
    bias: tuple[Bias, ...] = ("names", "gender", "nationality", "religion", "age")
    """Lists of words in English and Chinese, which are swapped in prompt and target: `she` for `he`. The difference of the scores
    is reported."""
    rows: Annotated[int, Field(ge=1)] = 100
    """Maximum number of rows of each family for each probe: a fixed sample of the test rows."""
    seed: Seed = 17
    """Selects the rows and their changes."""
