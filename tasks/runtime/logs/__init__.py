"""Logging: one logger per module, one configuration per process.

    logger = logging.getLogger(__name__)     # in a module
    logger.info("curate: 529 rows")          # the message of a line, as users read it

    set_up_logs(stage="curate")              # at the entry of a process, after `prepare_streams()`

Lines are written to standard error, which leaves standard output to results: styled by rich on a terminal, plain in a pipe, one
JSON object per line with `STROP_LOG_FORMAT=json`. A file is written as well if `STROP_LOG_FILE` names one. Child processes have the
same variables, so the same level and format. Secrets are removed from all records, and control characters are escaped.

The modules, each of which imports only from those above it:

    libraries.py        the levels of other libraries' loggers
    formats.py          record → line of text or JSON
    handlers.py         standard error, the terminal, and a file that several processes share
    setup.py            the configuration of a process
"""
