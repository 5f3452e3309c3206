"""The retraining flow, schedules, promotion, and the command `strop`, around the rooms in tasks/."""
