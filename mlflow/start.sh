#!/bin/sh
# Starts the team's server inside its container (compose.yaml): users are kept in the same Postgres as everything else.
set -eu
umask 077
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?}" "${MLFLOW_FLASK_SERVER_SECRET_KEY:?}" "${MLFLOW_SERVER_ALLOWED_HOSTS:?}" # never without
export MLFLOW_AUTH_CONFIG_PATH=/tmp/basic_auth.ini
cat > "$MLFLOW_AUTH_CONFIG_PATH" <<INI
[mlflow]
default_permission = READ
database_uri = $MLFLOW_BACKEND_STORE_URI
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
# the newest tables first, by one process: several that start at once would break each other's upgrade
mlflow db upgrade "$MLFLOW_BACKEND_STORE_URI"
exec mlflow server --host 0.0.0.0 --port 5000 --app-name basic-auth
