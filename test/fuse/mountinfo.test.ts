import { describe, expect, it } from 'vitest';
import { decodeMountinfo, findMount } from '../../src/fuse/mountinfo.ts';

describe('decodeMountinfo', () => {
  it('finds the fields around any number of optional ones', () => {
    const text = [
      '36 35 98:0 /mnt1 /mnt/parent rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue',
      '40 35 0:43 / /mnt/image rw,nosuid - fuse.qcow2fs /images/a.qcow2 rw,user_id=1000,group_id=7',
      '',
    ].join('\n');
    expect(decodeMountinfo(text)).toEqual([
      {
        device: '98:0',
        mountpoint: '/mnt/parent',
        escapedMountpoint: '/mnt/parent',
        fsType: 'ext3',
        source: '/dev/root',
        userId: undefined,
      },
      {
        device: '0:43',
        mountpoint: '/mnt/image',
        escapedMountpoint: '/mnt/image',
        fsType: 'fuse.qcow2fs',
        source: '/images/a.qcow2',
        userId: 1000,
      },
    ]);
  });

  it('undoes the escapes of blank, tab, newline, backslash and number sign', () => {
    const text = '40 35 0:43 / /m\\040a\\011b\\012c\\134d\\134040 rw - fuse.qcow2fs /i\\040\\043.qcow2 rw\n';
    const [mount] = decodeMountinfo(text);
    expect(mount?.mountpoint).toBe('/m a\tb\nc\\d\\040');
    expect(mount?.escapedMountpoint).toBe('/m\\040a\\011b\\012c\\134d\\134040');
    expect(mount?.source).toBe('/i #.qcow2');
  });

  it('leaves out lines that it does not understand', () => {
    expect(decodeMountinfo('40 35 0:43\n40 35 0:43 / /m rw fuse /i rw\n40 35 0:43 / /m rw -\n\n')).toEqual([]);
  });

  it('takes a mountpoint that is called "-" for no separator', () => {
    const [mount] = decodeMountinfo('40 35 0:43 / - rw - fuse.qcow2fs /i rw');
    expect(mount?.mountpoint).toBe('-');
    expect(mount?.fsType).toBe('fuse.qcow2fs');
  });
});

describe('findMount', () => {
  it('knows what is mounted on /proc', () => {
    expect(findMount('/proc')?.fsType).toBe('proc');
  });

  it('is undefined where nothing is mounted', () => {
    expect(findMount('/proc/nothing')).toBeUndefined();
  });
});
