#!/bin/bash
# Makes week.qcow2, the image of `qcow2fs demo`, and week.json, which says what QEMU reads in it.
#
# The image is the disk of a small shop: GPT, one ext4 partition, in it notes.txt and the SQLite database shop.db. It has
# a snapshot of every night of one week. Before Friday's snapshot one page of the database was overwritten with lines of
# a log; nobody noticed until after Sunday. On Saturday the disk was enlarged, so that the snapshots differ in size.
#
# Usage: src/demo/make-week.sh [FOLDER]     (default: the folder of this script)
#
# Needs no root. Needs node, fdisk (sfdisk), e2fsprogs, sqlite3 and qemu-utils. Nothing in it is random and nothing comes
# from the clock, so that the same versions of these tools make the same bytes.
set -euo pipefail
export LC_ALL=C TZ=UTC PATH=$PATH:/usr/sbin:/sbin
umask 022

fail() {
  echo "make-week.sh: $*" >&2
  exit 1
}

for tool in node sfdisk mke2fs debugfs e2fsck sqlite3 qemu-img qemu-io sha256sum; do
  command -v "$tool" >/dev/null || fail "$tool is missing"
done

folder=$(realpath "${1:-$(dirname "$0")}")
[ -d "$folder" ] || fail "$folder is not a folder"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

days=(monday tuesday wednesday thursday friday saturday sunday)
first_date=$(date -d 2026-11-16T02:00:00Z +%s)
day_seconds=86400

# One size for clusters, file system blocks and database pages keeps the image small: a changed page costs one cluster.
block_bytes=4096
disk_bytes=$((16 << 20))
enlarged_disk_bytes=$((24 << 20))
partition_offset=$((1 << 20))
partition_bytes=$((14 << 20))
partition="disk.raw?offset=$partition_offset"
# The third page: from Wednesday on the first leaf of the table `orders`, with Monday's orders, which no day changes.
damaged_page_offset=$((2 * block_bytes))

# 36 orders, or as many as asked for, numbered on from what is there; amounts and customers follow from the number.
add_orders() {
  local date=$1 count=${2:-36}
  sqlite3 shop.good "
    CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, placed TEXT, customer TEXT, article TEXT, cents INTEGER);
    WITH RECURSIVE next(n) AS (
      SELECT 1 UNION ALL SELECT n + 1 FROM next WHERE n < $count
    ), base(id) AS (SELECT coalesce(max(id), 0) FROM orders)
    INSERT INTO orders
      SELECT base.id + n, '$date ' || printf('%02d:%02d', 8 + n / 4, n * 37 % 60),
             'customer ' || ((base.id + n) * 7919 % 211),
             substr('tea pot  tea cup  kettle   saucer   strainertea tin  ', 1 + 9 * ((base.id + n) % 6), 9),
             100 * ((base.id + n) * 31 % 97) + 50
      FROM next, base ORDER BY n;"
}

# Makes shop.db from the database as it should be.
damage_database() {
  cp shop.good shop.db
  dd if=page.log of=shop.db bs=1 seek="$damaged_page_offset" conv=notrunc status=none
}

is_good() {
  [ "$(sqlite3 "$1" 'PRAGMA integrity_check' 2>&1)" = ok ]
}

# Both files are written anew, the text first, so that the database is one contiguous piece although it grows. debugfs
# exits 0 whatever happens, so the result is read back.
update_files() {
  local time=$1 file
  touch -d "@$time" notes.txt shop.db
  E2FSPROGS_FAKE_TIME=$time debugfs -w -f - "$partition" >debugfs.out 2>&1 <<'EOT'
rm /notes.txt
rm /shop.db
write notes.txt /notes.txt
write shop.db /shop.db
EOT
  for file in notes.txt shop.db; do
    debugfs -R "dump /$file $file.read" "$partition" 2>debugfs.out
    cmp "$file" "$file.read"
  done
  e2fsck -fn "$partition" >e2fsck.out 2>&1 || fail "e2fsck: $(cat e2fsck.out)"
}

# Brings the image from the content of disk.before to that of disk.raw as a running VM would: changed blocks only.
write_changes() {
  local block commands=()
  for block in $( (cmp -l disk.before disk.raw || true) | awk -v size="$block_bytes" '{ print int(($1 - 1) / size) }' | uniq); do
    dd if=disk.raw of="block.$block" bs="$block_bytes" skip="$block" count=1 status=none
    commands+=(-c "write -s block.$block $((block * block_bytes)) $block_bytes")
  done
  qemu-io -f qcow2 "${commands[@]}" week.qcow2 >qemu-io.out
  [ "$(grep -c '^wrote ' qemu-io.out)" -eq $((${#commands[@]} / 2)) ] || fail "qemu-io: $(cat qemu-io.out)"
  rm block.*
  cp disk.raw disk.before
}

# ---- the empty disk

truncate -s "$disk_bytes" disk.raw disk.before
sfdisk --quiet disk.raw <<EOT
label: gpt
label-id: 71636F77-3266-7300-8000-000000000001
unit: sectors
start=$((partition_offset / 512)), size=$((partition_bytes / 512)), type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=71636F77-3266-7300-8000-000000000002, name="shop"
EOT

# Without a journal, a snapshot never needs a recovery and mounts read-only as it is.
E2FSPROGS_FAKE_TIME=$((first_date - 7 * day_seconds)) mke2fs -q -F -t ext4 -b "$block_bytes" -N 16 -m 0 -L shop \
  -O ^has_journal,^resize_inode -U 71636f77-3266-7300-8000-000000000003 \
  -E "offset=$partition_offset,hash_seed=71636f77-3266-7300-8000-000000000004,root_owner=0:0,lazy_itable_init=0" \
  disk.raw $((partition_bytes / block_bytes))

qemu-img create -q -f qcow2 -o compat=1.1,cluster_size="$block_bytes" week.qcow2 "$disk_bytes"

# What landed on the damaged page: one block of somebody's log, at a wrong address.
seq -f 'Nov 19 22:15 shop cron[811]: job %03g done' 0 127 >page.log
truncate -s "$block_bytes" page.log
echo 'Notes of the shop' >notes.txt

# ---- the week

for index in "${!days[@]}"; do
  day=${days[$index]}
  date=$((first_date + index * day_seconds))
  add_orders "$(date -d "@$((date - day_seconds))" +%F)"
  case $day in
    monday | tuesday | wednesday | thursday) cp shop.good shop.db ;;
    *) damage_database ;;
  esac
  if [ "$day" = saturday ]; then qemu-img resize -q week.qcow2 "$enlarged_disk_bytes"; fi
  echo "$(date -d "@$date" +%F) night: $(sqlite3 shop.good 'SELECT count(*) FROM orders') orders" >>notes.txt
  update_files $((date - 600))
  write_changes
  qemu-img snapshot -c "$day" week.qcow2
done

add_orders "$(date -d "@$((first_date + 6 * day_seconds))" +%F)" 9
damage_database
echo 'Monday morning: the shop says "database disk image is malformed"' >>notes.txt
update_files $((first_date + 7 * day_seconds + 6 * 3600))
write_changes

# ---- the dates

# QEMU stamps the clock of this machine. date_sec and date_nsec (u32 each) lie at 16 and 20 of an entry of the snapshot
# table, whose place is in the header at 64; an entry is 40 bytes, the extra data, the id and the name, padded to 8.
# Overwriting them in place leaves lengths, clusters and reference counts as they were.
node --input-type=commonjs - week.qcow2 "$first_date" "$day_seconds" <<'NODE'
const { readFileSync, writeFileSync } = require('node:fs');
const [, , path, firstDate, daySeconds] = process.argv;
const image = readFileSync(path);
const count = image.readUInt32BE(60);
let entry = Number(image.readBigUInt64BE(64));
for (let index = 0; index < count; index += 1) {
  image.writeUInt32BE(Number(firstDate) + index * Number(daySeconds), entry + 16);
  image.writeUInt32BE(0, entry + 20);
  const lengthBytes = 40 + image.readUInt32BE(entry + 36) + image.readUInt16BE(entry + 12) + image.readUInt16BE(entry + 14);
  entry += Math.ceil(lengthBytes / 8) * 8;
}
writeFileSync(path, image);
NODE

qemu-img check -q week.qcow2
[ "$(stat -c %s week.qcow2)" -lt $((1 << 20)) ] || fail 'week.qcow2 is larger than 1 MiB'

# ---- what QEMU reads

sha256_of() {
  sha256sum <"$1" | cut -d' ' -f1
}

# Prints the first block of the database within the partition of disk.raw; fails unless the database is one piece.
database_block() {
  local blocks first last
  blocks=$(debugfs -R 'blocks /shop.db' "$partition" 2>/dev/null | xargs)
  first=${blocks%% *} last=${blocks##* }
  [ "$blocks" = "$(seq -s ' ' "$first" "$last")" ] || fail "shop.db is in pieces: $blocks"
  echo "$first"
}

# Prints the state of the image `state.qcow2` as an object of week.json.
describe_state() {
  local name=$1 id=$2 date=$3 offset
  qemu-img convert -f qcow2 -O raw state.qcow2 disk.raw
  offset=$((partition_offset + $(database_block) * block_bytes))
  debugfs -R 'dump /shop.db shop.db.read' "$partition" 2>debugfs.out
  case $name in
    monday | tuesday | wednesday | thursday) is_good shop.db.read || fail "the database of $name is damaged" ;;
    *) ! is_good shop.db.read || fail "the database of $name is not damaged" ;;
  esac
  cat <<EOT
    {
      "name": "$name",
      "id": $id,
      "date": $date,
      "virtualSizeBytes": $(stat -c %s disk.raw),
      "sha256": "$(sha256_of disk.raw)",
      "database": {
        "offsetBytes": $offset,
        "lengthBytes": $(stat -c %s shop.db.read),
        "sha256": "$(sha256_of shop.db.read)"
      }
    },
EOT
}

# `snapshot -a` takes the size of the snapshot over, which `convert -l` does not; it works on a copy.
describe_states() {
  local index
  cp week.qcow2 state.qcow2
  describe_state current null null
  for index in "${!days[@]}"; do
    cp week.qcow2 state.qcow2
    qemu-img snapshot -a "${days[$index]}" state.qcow2
    describe_state "${days[$index]}" "\"$((index + 1))\"" "\"$(date -d "@$((first_date + index * day_seconds))" +%FT%TZ)\""
  done
}

describe_states >states
[ "$(grep '"offsetBytes"' states | sort -u | wc -l)" -eq 1 ] || fail 'the database moved'
damaged_page=$((partition_offset + $(database_block) * block_bytes + damaged_page_offset))
cat >week.json <<EOT
{
  "image": { "sizeBytes": $(stat -c %s week.qcow2), "sha256": "$(sha256_of week.qcow2)" },
  "partition": { "offsetBytes": $partition_offset, "lengthBytes": $partition_bytes },
  "damagedPage": { "offsetBytes": $damaged_page, "lengthBytes": $block_bytes },
  "states": [
$(sed '$s/,$//' states)
  ]
}
EOT

install -m 644 week.qcow2 week.json "$folder/"
echo "made $folder/week.qcow2 ($(stat -c %s week.qcow2) bytes) and week.json"
