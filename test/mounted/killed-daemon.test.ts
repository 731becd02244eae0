/** A daemon that is killed while its mount is read, in every way to mount. */

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import tmp from 'tmp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { asOrdinaryUser } from '../support/ordinary-user.ts';
import { tryCommand } from '../support/run-command.ts';
import { installForUsers, withUserPlace } from '../support/user-place.ts';

const IMAGE = fileURLToPath(new URL('../../src/demo/week.qcow2', import.meta.url));

/**
 * $1 launcher, $2 image, $3 mountpoint, $4 file for the reader's messages, then options of the mount. Says how the reader
 * ended, for how many tenths of a second the mount was still there, and what is in the mountpoint then.
 */
const SCRIPT = `
launcher=$1 image=$2 mountpoint=$3 messages=$4
shift 4
"$launcher" mount "$@" "$image" "$mountpoint" || exit
while dd if="$mountpoint/current/disk.raw" of=/dev/null bs=64k iflag=direct status=none; do :; done 2>"$messages" &
reader=$!
sleep 0.3
for folder in /proc/[0-9]*; do
  case $(cat "$folder/cmdline" 2>/dev/null | tr '\\0' ' ') in
    *daemon/main.js*"\\"mountpoint\\":\\"$mountpoint\\""*) kill -KILL "\${folder#/proc/}" ;;
  esac
done
tenths=0
while grep -qF " $mountpoint " /proc/self/mountinfo && [ $tenths -lt 100 ]; do
  sleep 0.1
  tenths=$((tenths + 1))
done
wait $reader
echo "$tenths"
ls -A "$mountpoint"
`;

const folder = tmp.dirSync({ prefix: 'qcow2fs-killed-', unsafeCleanup: true, mode: 0o755 });
let launcher: string;

beforeAll(() => {
  launcher = installForUsers(`${folder.name}/package`);
  fs.writeFileSync(`${folder.name}/fuse.conf`, 'user_allow_other\n');
});

afterAll(() => folder.removeCallback());

const ways = ['kernel', 'fuse-native'].flatMap((transport) =>
  ['root', 'an ordinary user'].flatMap((user) =>
    [['ro'], ['allow_other']].map((options) => ({ transport, user, options: options.join(',') })),
  ),
);

test.each(ways)(
  'the mount through $transport of $user with -o $options is gone within two seconds, and its reader fails',
  ({ transport, user, options }) =>
    withUserPlace(
      (path) => fs.copyFileSync(IMAGE, path),
      ({ folder: place, image, mountpoint }) => {
        const identity = user === 'root' ? [] : asOrdinaryUser();
        // fusermount3 takes allow_other in this namespace, whatever the machine's own configuration says.
        const configure = 'mount --bind "$0" /etc/fuse.conf && exec "$@"';
        const { stdout, stderr } = tryCommand('unshare', [
          ...['--mount', '--propagation', 'private', 'sh', '-c', configure, `${folder.name}/fuse.conf`],
          ...[...identity, 'sh', '-c', SCRIPT, 'sh', launcher, image, mountpoint, `${place}/messages`],
          ...['--transport', transport, '-o', options],
        ]);
        expect(stderr).toBe('');
        expect(stdout).toMatch(/^\d+\n$/);
        expect(Number(stdout)).toBeLessThan(20);
        expect(fs.readFileSync(`${place}/messages`, 'utf8')).toMatch(/^dd: /);
      },
    ),
);
