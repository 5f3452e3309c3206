"""The former path of `judge_answer`, for scripts outside the project."""

from tasks.scoring.score import judge_answer

__all__ = ["judge_answer"]
