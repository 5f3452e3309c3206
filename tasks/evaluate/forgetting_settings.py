"""Settings of the measures of forgetting."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from tasks.runtime.base_settings import Settings

FOLDER = "data/forgetting/"
ANCHORS = "anchors"


def _is_an_input_of_runs(path: str) -> str:
    if not path.startswith(FOLDER) or ".." in path.split("/"):
        raise ValueError(f"it is below {FOLDER}, so that it is an input of each version")
    return path


def _is_no_name_of_ours(name: str) -> str:
    if name == ANCHORS:
        raise ValueError(f"`{ANCHORS}` is the name of the anchors in metrics.json; name the task otherwise")
    return name


InputPath = Annotated[str, AfterValidator(_is_an_input_of_runs)]
TaskName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"), AfterValidator(_is_no_name_of_ours)
]


class LmEvalSettings(Settings):
    tasks: Annotated[tuple[TaskName, ...], Field(min_length=1)]
    """Names of tasks or groups: of `include_path`, or of lm-eval itself, if their data sets are in the local cache of Hugging Face;
    nothing is downloaded."""
    include_path: InputPath | None = None
    """A folder below data/forgetting with tasks as YAML files, and their data: `dataset_path: json`,
    `dataset_kwargs: {data_files: {test: data/forgetting/…}}`."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Most rows of a task, its first ones; none: all."""
    num_fewshot: Annotated[int, Field(ge=0)] | None = None
    """Examples before a question; none: as the task defines. A task that sets 0 itself keeps it."""
    batch_rows: Annotated[int, Field(ge=1)] = 8
    """Rows that the harness computes at once."""
    apply_chat_template: bool = False
    """Write the questions by the model's chat template; published numbers of base models are without."""
