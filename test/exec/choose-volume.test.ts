import { describe, expect, test } from 'vitest';
import { chooseVolume } from '../../src/exec/choose-volume.ts';
import type { VolumeDescription, VolumesDescription } from '../../src/open-image/describe-volumes.ts';
import { catchError } from '../support/catch-error.ts';

function volume(name: string, type: string | null, names: { label?: string; uuid?: string; part?: string } = {}) {
  const { label = null, uuid = null, part = null } = names;
  return {
    ...{ name, startBytes: 0, sizeBytes: 4096, partitionType: null, partitionLabel: part, partitionUuid: null },
    fileSystem: type === null ? null : { type, label, uuid, dirty: null },
  } satisfies VolumeDescription;
}

function disk(...volumes: VolumeDescription[]): VolumesDescription {
  return { partitionTable: null, volumes, unsupportedVolumes: [], volumeProblems: [] };
}

describe('chooseVolume', () => {
  test('takes a name before what a guest calls another volume', () => {
    const volumes = disk(volume('p1', 'ext4', { label: 'p2' }), volume('p2', 'xfs', { label: 'p1' }));
    expect(chooseVolume(volumes, 'p2', 'night')).toMatchObject({ index: 1, mountType: { type: 'xfs' } });
  });

  test('takes labels of partitions, and UUIDs in any case', () => {
    const volumes = disk(volume('p1', 'ext4', { uuid: 'ABCD-1234' }), volume('p2', 'ntfs', { part: 'Windows' }));
    expect(chooseVolume(volumes, 'abcd-1234', 'night').index).toBe(0);
    expect(chooseVolume(volumes, 'Windows', 'night')).toMatchObject({ index: 1, mountType: { type: 'ntfs3' } });
  });

  test('without a name takes the only one that can be mounted', () => {
    const volumes = disk(volume('p1', null), volume('p2', 'swap'), volume('p3', 'btrfs'), volume('p4', 'LVM2_member'));
    expect(chooseVolume(volumes, null, 'night').index).toBe(2);
  });

  test.each([
    [
      'USAGE',
      disk(volume('p1', 'ext4'), volume('p2', 'vfat')),
      null,
      /p1 \(ext4, 4096 bytes\), p2 \(vfat, 4096 bytes\)/,
    ],
    [
      'USAGE',
      disk(volume('p1', 'ext4', { label: 'a' }), volume('p2', 'ext4', { label: 'a' })),
      'a',
      /volumes called a/,
    ],
    ['NOT_FOUND', disk(volume('p1', 'swap')), null, /no file system that can be mounted: it has p1 \(swap, /],
    ['NOT_FOUND', disk(), 'p1', /no volume p1: it has no volumes$/],
    ['UNSUPPORTED', disk(volume('p1', null)), 'p1', /it holds no file system that is known$/],
    ['UNSUPPORTED', disk(volume('p1', 'zfs_member')), 'p1', /it holds zfs_member: a part of a ZFS pool$/],
  ])('%s is thrown, with what there is', (code, volumes, wanted, message) => {
    const error = catchError(() => chooseVolume(volumes, wanted, 'night'));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  test('says why a logical volume is none', () => {
    const unsupportedVolumes = [{ name: 'vg/thin', sizeBytes: 4096, reason: 'it is thin' }];
    const error = catchError(() => chooseVolume({ ...disk(), unsupportedVolumes }, 'vg-thin', 'night'));
    expect(error).toMatchObject({ code: 'UNSUPPORTED', message: 'vg-thin of night cannot be read: it is thin' });
  });
});
