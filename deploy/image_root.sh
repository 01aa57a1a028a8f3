#!/bin/bash
# Lays out the file system of the image: the programs in BIN, the libraries that they link, certificates, the configs and
# the model that ships. No shell, no package manager; ROOT must not exist yet.
#   image_root.sh build/release/bin ROOT
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$1 root=$2
[ ! -e "$root" ] || { echo "$root is there already" >&2; exit 1; }

files=("$bin"/conclave "$bin"/conclave-router "$bin"/conclave-worker)
if [ -e "$bin/libconclave_cuda.so" ]; then files+=("$bin/libconclave_cuda.so"); fi
install -d "$root"/{etc/ssl/certs,usr/bin,var/lib/dpkg/status.d,conclave/models}
install -d -m 1777 "$root/tmp" "$root/flights"
for file in "${files[@]}"; do strip --strip-unneeded -o "$root/usr/bin/$(basename "$file")" "$file"; done

# Into the folder that the loader knows by itself, wherever a library came from; the driver's own come with the driver.
libraries=$(for file in "${files[@]}"; do ldd "$file"; done | awk '$3 ~ /^\// {print $3}' | sort -u | grep -v '/libcuda\.so')
if missing=$(for file in "${files[@]}"; do ldd "$file"; done | grep 'not found' | grep -v 'libcuda\.so'); then
  echo "not here: $missing" >&2
  exit 1
fi
folder=$root/lib/$(gcc -print-multiarch)
install -d "$folder"
for library in $libraries; do cp -L "$library" "$folder/"; done

# Of ICU's data, names and languages of the whole world, the programs use normal forms and properties of characters: half a
# megabyte instead of thirty.
small_icu() {
  local work name library=$1
  work=$(mktemp -d)
  name=$(readelf -Ws "$library" | grep -om 1 'icudt[0-9]*')
  objcopy -O binary --only-section=.rodata "$library" "$work/${name}l.dat"
  icupkg -l "$work/${name}l.dat" | grep -vE '^[a-z0-9_]+\.(icu|nrm)$' >"$work/remove.txt"
  icupkg -r "$work/remove.txt" "$work/${name}l.dat" "$work/small.dat"
  genccode -a gcc -e "$name" -d "$work" -f icudata "$work/small.dat" >/dev/null
  gcc -shared -Wl,-soname,"$(basename "$library")" -o "$library" "$work/icudata.S"
  rm -rf "$work"
}
export PATH=$PATH:/usr/sbin
for library in "$folder"/libicudata.so.*; do small_icu "$library"; done

loader=$(ldd "${files[0]}" | awk '$1 ~ /^\/.*\/ld-linux/ {print $1}')
install -D "$(readlink -f "$loader")" "$root$loader"

# Whose they are, where scanners of images look for it.
for file in $libraries "$loader" /etc/ssl/certs/ca-certificates.crt; do
  dpkg -S "$(readlink -f "$file")" 2>/dev/null || dpkg -S "$file" 2>/dev/null || true
done | cut -d: -f1 | sort -u | while read -r package; do
  dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
  if [ -e "/usr/share/doc/$package/copyright" ]; then
    install -D -m 644 "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/copyright"
  fi
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
printf '%s\n' 'root:x:0:0:root:/:/nologin' 'conclave:x:65532:65532:Conclave:/conclave:/nologin' >"$root/etc/passwd"
printf '%s\n' 'root:x:0:' 'conclave:x:65532:' >"$root/etc/group"
cp -r configs LICENSE "$root/conclave/"
cp -r models/conclave-demo "$root/conclave/models/"
rm -rf "$root/conclave/models/conclave-demo/recipe"
chmod -R u=rwX,go=rX "$root/conclave"
du -sh --apparent-size "$root"
