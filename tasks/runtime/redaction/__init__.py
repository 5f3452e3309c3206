"""Redaction: detects secrets in settings, collects the secrets of this project, and removes them from texts.

    message = redact(str(error))    # for errors, logs and reports: removes known values and everything that looks like a password
    line = without_known(text)      # for displayed rows: removes only known values, because a row may look like an address
    install()                       # at the entry of a command: redacts errors and log records of all libraries

params.yaml is in git; a secret in it is the name of an environment variable, `${NAME}`, never the value. Known secrets are the
values of these variables, of variables with a secret's name, of proxies and other addresses in the environment, and of the
remotes of DVC (all of `.dvc/config.local`) and git.

The modules, each of which imports only from those above it:

    patterns.py         patterns of secret names and addresses
    settings.py         literal secrets in settings; replaces values by `${NAME}`, and `${NAME}` by values
    tool_configs.py     secrets in the configuration files of DVC and git
    known.py            the secret values of this project, and their removal from texts
    text.py             removal of everything that looks like a secret
    errors_and_logs.py  redacted errors and log records
"""
