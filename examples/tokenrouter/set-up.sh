#!/bin/sh
# Sets the gateway of settings.toml up: tables, prices, channels, a first customer with 10.00, and two
# people who can sign in at /account: olga, who operates it, and anna, who belongs to the customer.
#
#     sh examples/tokenrouter/set-up.sh [SETTINGS]
#
# Their passwords are asked for on the terminal, or are both $GATEWAY_PASSWORD. It runs once: what is
# set up already stays as it is.
set -eu
here=$(dirname "$0")
config=${1:-$here/settings.toml}

with_password() {
    if [ -n "${GATEWAY_PASSWORD:-}" ]; then
        printf '%s\n' "$GATEWAY_PASSWORD" | "$@"
    else
        "$@"
    fi
}

translator account init --config "$config"
if translator account list --config "$config" | grep -q ' acme '; then
    echo "The gateway is set up already: nothing was changed."
    exit 0
fi
translator price import "$here/prices.toml" --config "$config"
translator channel set open --title "Open models" --models '*' --config "$config"
translator channel set fast --title "Fast and cheap models" \
    --models gpt-oss-120b,deepseek-v4-flash,minimax-m2p7 --config "$config"
echo "Password of olga, who operates the gateway:"
with_password translator account user add olga --operator --config "$config"
translator account add acme --config "$config"
translator account top-up acme 10 --ref welcome --config "$config"
echo "Password of anna, of the customer acme:"
with_password translator account user add anna --account acme --config "$config"
echo "Start it: translator serve --config $config"
