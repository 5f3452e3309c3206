"""The former path of `score_answer`, for scripts outside the project."""

from tasks.scoring.score import score_answer as judge_answer

__all__ = ["judge_answer"]
