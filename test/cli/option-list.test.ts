import { describe, expect, test } from 'vitest';
import { applyOptionLists, splitOptionList } from '../../src/cli/option-list.ts';
import { catchError } from '../support/catch-error.ts';

const flagsOf = (...options: string[]) => {
  const { options: _, ...flags } = applyOptionLists({ options });
  return flags;
};

test.each([
  ['ro,noexec', ['ro', 'noexec']],
  ['', []],
  [',ro,,', ['ro']],
  ['fsname=a\\,b,ro', ['fsname=a,b', 'ro']],
  ['fsname=a\\\\,ro', ['fsname=a\\', 'ro']],
  ['fsname=a\\040b\\054c', ['fsname=a b,c']],
  ['log-file=/a=b', ['log-file=/a=b']],
  ['fsname=\\303\\274\u00fc', ['fsname=\u00fc\u00fc']],
  ['fsname=a\nb\\', ['fsname=a\nb\\']],
])('%j is split as other FUSE file systems split it', (list, options) => {
  expect(splitOptionList(list)).toEqual(options);
});

describe('options', () => {
  test('that mount(8) and mount.fuse3 add by themselves, or keep for themselves, change nothing', () => {
    expect(
      flagsOf('rw,suid,dev,relatime,user=bob,users,nofail,noauto,_netdev,x-systemd.automount,X-mount.mkdir'),
    ).toEqual({});
  });

  test('of the kernel are passed on in their order', () => {
    expect(flagsOf('noexec', 'noatime,exec')).toEqual({ kernelFlags: ['noexec', 'noatime', 'exec'] });
  });

  test('say who owns what is shown', () => {
    expect(flagsOf('allow_other,uid=1000,gid=0,umask=0077')).toEqual({
      allowOther: true,
      uid: 1000,
      gid: 0,
      umask: 0o77,
    });
  });

  test('are all those of qcow2fs mount too', () => {
    expect(
      flagsOf(
        'passphrase-file=/a,passphrase-file=/b',
        'allow-path=/c,backing=/d,data-file=/e,log-file=/f,direct_io,foreground,transport=kernel',
      ),
    ).toEqual({
      passphraseFile: ['/a', '/b'],
      allowPath: ['/c'],
      backing: '/d',
      dataFile: '/e',
      logFile: '/f',
      directIo: true,
      foreground: true,
      transport: 'kernel',
    });
    expect(flagsOf('no-backing,direct-io')).toEqual({ backing: false, directIo: true });
  });

  test('add to what the command line says, and win over it', () => {
    const flags = applyOptionLists({ allowPath: ['/a'], logFile: '/b', options: ['allow-path=/c,log-file=/d'] });
    expect(flags).toMatchObject({ allowPath: ['/a', '/c'], logFile: '/d' });
  });
});

test.each([
  ['frobnicate', '-o frobnicate: there is no such option'],
  ['passphrase=secret', '-o passphrase: there is no such option'],
  ['constructor', '-o constructor: there is no such option'],
  ['remount', '-o remount: there is no such option'],
  ['ro=1', '-o ro=1: it takes no value, only ro'],
  ['noexec=1', '-o noexec=1: it takes no value, only noexec'],
  ['uid', '-o uid: it needs a value: uid=VALUE'],
  ['log-file=', '-o log-file=: it needs a value: log-file=VALUE'],
  ['uid=bob', '-o uid=bob: it needs a number; `id -u NAME` prints that of a user'],
  ['gid=4294967295', '-o gid=4294967295: it needs a number; `getent group NAME` prints that of a group'],
  ['umask=8', '-o umask=8: it needs an octal number up to 777, such as 077'],
  ['umask=1000', '-o umask=1000: it needs an octal number up to 777, such as 077'],
  ['max_read=1k', '-o max_read=1k: it needs a number of bytes, at least 4096'],
  ['max_read=0', '-o max_read=0: it needs a number of bytes, at least 4096'],
  ['transport=tcp', '-o transport=tcp: it is one of auto, kernel, fuse-native'],
  ['subtype=x', '-o subtype=x: the type of a mount is always fuse.qcow2fs, by which `qcow2fs umount` knows it'],
])('%s is wrong use, by name', (option, message) => {
  const error = catchError(() => flagsOf(`ro,${option}`));
  expect(error.code).toBe('USAGE');
  expect(error.message).toBe(message);
});
