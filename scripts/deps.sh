#!/usr/bin/env bash
# Installs what the tests call, by Debian package; only what is missing.
set -eu
declare -A package=(
  [ip]=iproute2 [ping]=iputils-ping [traceroute]=traceroute [iperf3]=iperf3 [ethtool]=ethtool
  [radvd]=radvd [radvdump]=radvdump [rdisc6]=ndisc6 [tcpdump]=tcpdump [tshark]=tshark [frag6]=ipv6toolkit [atk6-alive6]=thc-ipv6
  [jq]=jq [curl]=curl [gcc]=gcc [nc]=netcat-openbsd [sysctl]=procps
  [qemu-system-x86_64]=qemu-system-x86 [busybox]=busybox-static
)
kernel=/var/cache/leveret/kernel # of the VM: files only, nothing of it is installed or boots this machine
want=()
for program in "${!package[@]}"; do
  command -v "$program" >/dev/null 2>&1 || [ -x "/usr/sbin/$program" ] || want+=("${package[$program]}")
done
/usr/bin/python3 -c 'import scapy' >/dev/null 2>&1 || want+=(python3-scapy)
need_kernel=
if [ "$(uname -m)" = x86_64 ] && ! compgen -G "$kernel/boot/vmlinuz-*-cloud-amd64" >/dev/null && ! compgen -G '/boot/vmlinuz-*-cloud-amd64' >/dev/null; then
  need_kernel=linux-image-cloud-amd64
fi
[ ${#want[@]} -eq 0 ] && [ -z "$need_kernel" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "deps: not installed: ${want[*]} $need_kernel; the tests that need them are left out" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
[ ${#want[@]} -eq 0 ] || apt-get install -y -qq --no-install-recommends "${want[@]}" >/dev/null
[ -z "$need_kernel" ] && exit 0
image=$(apt-cache depends --important "$need_kernel" | awk '/Depends: linux-image-/ {print $2; exit}')
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
(cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root "$image" >/dev/null && dpkg-deb -x "$image"_*.deb files)
# Modules first: whoever finds the image finds them too.
mkdir -p "$kernel/lib" "$kernel/boot"
cp -r "$tmp/files/lib/modules" "$kernel/lib/"
cp "$tmp"/files/boot/vmlinuz-* "$kernel/boot/"
