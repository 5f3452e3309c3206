"""Room `audit`: verifies a version against its receipt, link by link."""
