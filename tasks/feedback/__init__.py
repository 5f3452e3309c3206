"""What was served and what people say of it: records, the spool that stores them, and the rows that they become."""
