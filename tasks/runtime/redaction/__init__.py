"""Secrets: what is one in a setting, which ones this project knows, and a text without them.

    message = redact(str(error))    # for an error, a log or a report: known values and everything shaped like a password
    line = without_known(text)      # for what is shown: known values alone, because a row may look like an address
    install()                       # at the entry of a command: errors and log records of any library are redacted

In params.yaml, which git keeps, a secret is the name of an environment variable, `${NAME}`, and never its value. Known are
the values of those variables, of variables that are named like a secret, of proxies and other addresses in the
environment, of DVC's remotes (all of `.dvc/config.local`) and of git's.

The modules, each of which imports only from those above it:

    patterns.py         what a secret's name and an address look like
    settings.py         secrets written out in a setting; `${NAME}` in place of values, and values in place of it
    tool_configs.py     secrets in the configuration files of DVC and git
    known.py            the secret values of this project, and a text without them
    text.py             a text without whatever is shaped like a secret
    errors_and_logs.py  errors and log records without secrets
"""
