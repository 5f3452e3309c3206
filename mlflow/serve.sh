#!/bin/sh
# Shows the registry of this project in a browser, to its owner alone: http://127.0.0.1:5000 (another port: PORT=5001)
# Login: admin, with the password in .strop/mlflow/password. Whoever may write here may put a model of his own into service.
set -eu
umask 077
cd "$(dirname "$0")/.."
command=mlflow python=python3
[ -x .venv/bin/mlflow ] && command=.venv/bin/mlflow python=.venv/bin/python
secrets=.strop/mlflow port="${PORT:-5000}"

mkdir -p "$secrets"
[ -O "$secrets" ] || { echo "serve.sh: $secrets belongs to another user. Run it as that user, or remove it." >&2; exit 1; }
chmod 700 "$secrets"
if [ ! -s "$secrets/password" ] || [ ! -s "$secrets/users.db" ]; then
  rm -f "$secrets/users.db"
  "$python" -c 'import secrets; print(secrets.token_urlsafe(24))' > "$secrets/password"
fi
chmod 600 "$secrets"/*
cat > "$secrets/basic_auth.ini" <<INI
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///$secrets/users.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
# by environment: ps shows arguments to every user of the machine
MLFLOW_AUTH_ADMIN_PASSWORD="$(cat "$secrets/password")"
MLFLOW_FLASK_SERVER_SECRET_KEY="$("$python" -c 'import secrets; print(secrets.token_hex(32))')"
export MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY
export MLFLOW_AUTH_CONFIG_PATH="$secrets/basic_auth.ini"
export MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # 2 processes instead of 9

echo "http://127.0.0.1:$port  login: admin, password: in $secrets/password" >&2
exec "$command" server --host 127.0.0.1 --port "$port" --workers 1 --app-name basic-auth \
  --allowed-hosts "127.0.0.1:$port,localhost:$port" --cors-allowed-origins "http://127.0.0.1:$port" --x-frame-options DENY \
  --backend-store-uri sqlite:///mlflow/mlflow.db --artifacts-destination mlflow/artifacts
