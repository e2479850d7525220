#!/bin/sh
# Settings that packages look at while they are being installed. $1 is the new system's root.
set -eu
root=$1
mkdir -p "$root/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\nRESUME=none\n' > "$root/etc/initramfs-tools/conf.d/forestage"
: > "$root/etc/initramfs-tools/modules"
for module in $FORESTAGE_INITRD_MODULES; do echo "$module"; done >> "$root/etc/initramfs-tools/modules"
: > "$root/etc/locale.gen"
for locale in $FORESTAGE_LOCALES; do echo "$locale ${locale#*.}"; done >> "$root/etc/locale.gen"
# The initrd packs the file system check for the type named here.
echo '/dev/disk/by-partlabel/forestage-os / ext4 defaults,x-systemd.growfs 0 1' > "$root/etc/fstab"
# Kernel links belong into /; the old ones would point to the same files.
printf 'do_symlinks = yes\nlink_in_boot = no\n' > "$root/etc/kernel-img.conf"
