#!/bin/sh
# Settles the installed system in $1 and makes the filesystem image $FORESTAGE_WORK/os.img of it.
set -eu
root=$1
PATH=$PATH:/usr/sbin:/sbin

for unit in $FORESTAGE_ENABLE; do chroot "$root" systemctl --quiet enable "$unit"; done
for unit in $FORESTAGE_MASK; do chroot "$root" systemctl --quiet mask "$unit"; done
chroot "$root" usermod --password '!*' root

# Every wired network, by DHCP; starting up waits for none.
cat > "$root/etc/systemd/network/80-ethernet.network" <<'EOF'
[Match]
Type=ether
Name=en* eth*

[Link]
RequiredForOnline=no

[Network]
DHCP=yes
IPv6AcceptRA=yes
EOF
echo localhost > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$root/etc/hosts"
for locale in $FORESTAGE_LOCALES; do echo "LANG=$locale"; break; done > "$root/etc/default/locale"
for locale in $FORESTAGE_LOCALES; do
    wanted=$(echo "$locale" | sed 's/UTF-8/utf8/')
    chroot "$root" locale -a | grep -qx "$wanted" || { echo "locale $locale was not generated" >&2; exit 1; }
done

# A building system starts no services; the real program comes back in place of the stand-in.
if [ -e "$root/usr/sbin/start-stop-daemon.REAL" ]; then
    mv -f "$root/usr/sbin/start-stop-daemon.REAL" "$root/usr/sbin/start-stop-daemon"
fi

# Packages install alternatives of manual pages and fail without these folders, whether the pages are wanted or not.
for section in 1 2 3 4 5 6 7 8; do mkdir -p "$root/usr/share/man/man$section"; done

# What was needed to build it, or would be the same on every machine.
rm -f "$root/vmlinuz.old" "$root/initrd.img.old" "$root/etc/apt/apt.conf.d/99mmdebstrap" \
    "$root/var/lib/dbus/machine-id" "$root/usr/sbin/policy-rc.d" \
    "$root/var/lib/systemd/random-seed" "$root/etc/resolv.conf" \
    "$root/etc/.resolv.conf.systemd-resolved.bak"
sed -i '/force-unsafe-io/d' "$root/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
echo 'APT::Install-Recommends "0";' > "$root/etc/apt/apt.conf.d/90forestage"
ln -s ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"
: > "$root/etc/machine-id"
for pattern in $FORESTAGE_REMOVE; do rm -rf "$root"$pattern; done
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin "$root"/var/cache/debconf/*-old \
    "$root"/var/cache/ldconfig/* "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/root/.bash_history
find "$root/var/cache/apt/archives" -type f -delete
test -s "$root/vmlinuz" || { echo 'no kernel was installed' >&2; exit 1; }
test -s "$root/initrd.img" || { echo 'no initrd was made' >&2; exit 1; }
# dpkg on a system of another day compares with this.
cp "$root/var/lib/dpkg/status" "$FORESTAGE_WORK/dpkg-status"
chmod 0644 "$FORESTAGE_WORK/dpkg-status"

# /proc, /sys and /dev are mounted on the tree: a bind mount shows it without them. /tmp holds files of mmdebstrap,
# which must stay (its apt would fall back to the settings of this machine): the image gets an empty one.
plain="$FORESTAGE_WORK/plain"
mkdir "$plain"
mount --bind "$root" "$plain"
mount --make-private "$plain"
# This one it removes itself in the end, and fails if it is gone.
own=etc/apt/apt.conf.d/00mmdebstrap
mv "$root/$own" "$FORESTAGE_WORK/own"
trap 'umount --recursive "$plain" && rmdir "$plain" && mv "$FORESTAGE_WORK/own" "$root/$own"' EXIT
mount -t tmpfs -o mode=1777 none "$plain/tmp"
mount -t tmpfs -o mode=0755 none "$plain/run"
used_kib=$(du -skx "$plain" | cut -f1)
size_mib=$(( (used_kib * 5 / 4 / 1024 + 256 + 15) / 16 * 16 ))
truncate -s "${size_mib}M" "$FORESTAGE_WORK/os.img"
mke2fs -q -F -t ext4 -m 1 -L forestage-os -U "$FORESTAGE_UUID" \
    -E "root_owner=0:0,hash_seed=$FORESTAGE_UUID,lazy_itable_init=0,lazy_journal_init=0" \
    -d "$plain" "$FORESTAGE_WORK/os.img"
chmod 0644 "$FORESTAGE_WORK/os.img"
