#!/usr/bin/env bash
# Installs what tunnels are compared with: strongSwan by Debian package, wireguard-go into a directory of its own. Only
# the bench calls them; no test needs them.
set -eu
cache=/var/cache/leveret/bench
wireguard=v0.0.0-20260522210424-ecfc5a8d5446
mkdir -p "$cache"
GOBIN=$cache GOFLAGS=-mod=mod go install golang.zx2c4.com/wireguard@$wireguard
if [ ! -x /usr/lib/ipsec/charon ] || ! command -v swanctl >/dev/null || [ ! -f /usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  # Nothing of it is to run but in the bench's namespaces.
  RUNLEVEL=1 apt-get install -y -qq --no-install-recommends strongswan-charon strongswan-swanctl libcharon-extra-plugins libstrongswan-standard-plugins >/dev/null
  if command -v systemctl >/dev/null; then systemctl disable --now strongswan-starter 2>/dev/null || true; fi
fi
