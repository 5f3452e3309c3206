"""The world around the rooms: the retraining flow, schedules, promotion, and the command `strop`."""
