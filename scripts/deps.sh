#!/usr/bin/env bash
# Installs what the tests call, by Debian package; only what is missing.
set -eu
declare -A package=(
  [ip]=iproute2 [ping]=iputils-ping [traceroute]=traceroute [iperf3]=iperf3 [ethtool]=ethtool
  [radvd]=radvd [radvdump]=radvdump [rdisc6]=ndisc6 [tcpdump]=tcpdump [tshark]=tshark [frag6]=ipv6toolkit [atk6-alive6]=thc-ipv6
  [jq]=jq [gcc]=gcc [nc]=netcat-openbsd [sysctl]=procps
)
want=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || want+=("${package[$program]}")
done
/usr/bin/python3 -c 'import scapy' >/dev/null 2>&1 || want+=(python3-scapy)
[ ${#want[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "deps: not installed: ${want[*]}; the tests that need them are left out" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null
